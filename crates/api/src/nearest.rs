//! What was probably meant by a name that does not exist.

/// Names of more letters are no names that somebody mistyped.
const LONGEST: usize = 64;

/// The known name closest to a mistyped one, if any is close.
#[must_use]
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if typed.chars().nth(LONGEST).is_some() {
        return None;
    }
    let typed = letters(typed);
    let most = (typed.len() / 3).max(1);
    known
        // No comparison makes up for too many letters.
        .filter(|name| name.chars().take(LONGEST + 1).count().abs_diff(typed.len()) <= most)
        .map(|name| (distance(&typed, &letters(name)), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

fn letters(name: &str) -> Vec<char> {
    name.chars().flat_map(char::to_lowercase).collect()
}

/// Edits between two names.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (row[j] + 1).min(row[j + 1] + 1).min(corner + usize::from(x != y));
            corner = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_third_of_a_name_may_be_mistyped() {
        let nearest = |typed| nearest(typed, ["concurrency", "image", "statusPort"].into_iter());
        assert_eq!(nearest("concurency"), Some("concurrency"));
        assert_eq!(nearest("StatusPort"), Some("statusPort"));
        assert_eq!(nearest("something"), None);
        assert_eq!(nearest(&"concurrency".repeat(6)), None);
    }
}
