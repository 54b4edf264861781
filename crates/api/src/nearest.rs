//! What was probably meant by a name that does not exist.

/// The known name closest to a mistyped one, if any is close.
#[must_use]
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (typed.chars().count() / 3).max(1);
    known
        .map(|name| (distance(typed, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// Edits between two names, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
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
    }
}
