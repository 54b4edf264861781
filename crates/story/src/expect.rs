//! Does an output match what the story expects?

/// Checks an output; the error shows the first line that does not match.
pub fn matches(expected: &[String], output: &str) -> Result<(), String> {
    if expected.is_empty() {
        return Ok(());
    }
    let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
    match matched(expected, &lines) {
        Ok(()) => Ok(()),
        Err((want, got)) => Err(match (expected.get(want), lines.get(got)) {
            (Some(want), Some(got)) => format!("expected: {want}\n     got: {got}"),
            (Some(want), None) => format!("expected: {want}\n     got: (end of output)"),
            (None, _) => format!("expected: (end of output)\n     got: {}", lines.get(got).unwrap_or(&"")),
        }),
    }
}

/// `...` stands for any number of lines; everything else is one line. The error is the farthest position reached.
fn matched(expected: &[String], lines: &[&str]) -> Result<(), (usize, usize)> {
    let mut farthest = (0, 0);
    // Positions in `lines` that the expected lines so far can end at.
    let mut reachable = vec![0];
    for (index, want) in expected.iter().enumerate() {
        let next: Vec<usize> = if want == "..." {
            let first = reachable.iter().min().copied().unwrap_or(0);
            (first..=lines.len()).collect()
        } else {
            let fits = |at: &usize| lines.get(*at).is_some_and(|line| line_matches(want, line));
            reachable.iter().filter(|at| fits(at)).map(|at| at + 1).collect()
        };
        if next.is_empty() {
            return Err((index, reachable.iter().min().copied().unwrap_or(0)));
        }
        farthest = (index + 1, next.iter().max().copied().unwrap_or(0));
        reachable = next;
    }
    if reachable.contains(&lines.len()) {
        Ok(())
    } else {
        Err(farthest)
    }
}

/// `[..]` stands for any text; runs of blanks are one, since columns move with their longest cell.
fn line_matches(want: &str, line: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (want, line) = (squeeze(want), squeeze(line));
    let mut parts = want.split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &str, output: &str, fits: bool) {
        let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
        assert_eq!(matches(&expected, output).is_ok(), fits, "{expected:?} {output:?}");
    }

    #[test]
    fn lines_and_gaps() {
        check("a\nb", "a\nb\n", true);
        check("a\nb", "a\n", false);
        check("a", "a\nb", false);
        check("a\n...\nd", "a\nb\nc\nd", true);
        check("...\nb\n...", "a\nb\nb\nc", true);
        check("...\nx\n...", "a\nb", false);
        check("a\n...", "a", true);
    }

    #[test]
    fn gaps_within_a_line() {
        check(
            "istiod-canary-[..] 1/1 Running [..]",
            "istiod-canary-84c8-skc    1/1     Running   0   25s",
            true,
        );
        check(
            "istiod-canary-[..] 1/1 Running [..]",
            "istiod-canary-84c8-skc    0/1     Running   0   25s",
            false,
        );
        check("[..] ago", "3 days ago", true);
        check("a[..]b[..]c", "axxbyyc", true);
        check("a[..]b[..]c", "axxcyyb", false);
    }

    #[test]
    fn the_error_shows_both_lines() {
        let error = matches(&["a".into(), "b".into()], "a\nx\n");
        assert_eq!(error, Err("expected: b\n     got: x".to_owned()));
    }
}
