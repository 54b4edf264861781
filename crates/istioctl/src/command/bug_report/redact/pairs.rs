//! Secrets among headers as Envoy logs them.

use std::borrow::Cow;

use super::GONE;
use super::addresses::last_len;
use super::cut::Cut;
use super::name::Name;
use super::scan::rfind;
use super::words::{is_name, line_len};

/// `'x-api-key', '…'` on a line of its own, as Envoy logs headers.
pub(super) fn pairs<'a>(text: &'a str, replaced: &mut usize) -> Cow<'a, str> {
    const BETWEEN: &str = "', '";
    let mut cut = Cut::new(text);
    for (at, _) in text.match_indices(BETWEEN) {
        let done = cut.done();
        if at < done {
            continue;
        }
        let start =
            rfind(&text[done..at], |c| !is_name(c)).map_or(done, |last| done + last + last_len(&text[done..], last));
        if !text[..start].ends_with('\'') || !Name(&text[start..at]).is_secret() {
            continue;
        }
        let from = at + BETWEEN.len();
        let line = &text[from..from + line_len(&text[from..])];
        // A quote in a value is no end of it.
        let length = line.rfind('\'').unwrap_or(line.len());
        if matches!(&line[..length], "" | GONE) {
            continue;
        }
        cut.out(from, from + length, replaced);
    }
    cut.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expected: &str) {
        let mut replaced = 0;
        let left = pairs(given, &mut replaced).replace(GONE, "#");
        assert_eq!((left.as_str(), replaced), (expected, expected.matches('#').count()));
    }

    #[test]
    fn values_of_headers_go_by_their_names() {
        check(
            "'x-api-key', 's3cr3t'\n':path', '/'\n",
            "'x-api-key', '#'\n':path', '/'\n",
        );
        check(
            "2026-11-26T20:00:00Z 'cookie', 'a=b; it's'\n",
            "2026-11-26T20:00:00Z 'cookie', '#'\n",
        );
        check("'x-api-key', 'cut off", "'x-api-key', '#");
        check("'x-api-key', ''\n", "'x-api-key', ''\n");
        check("x-api-key', 'x'\n", "x-api-key', 'x'\n");
        check("'é', 'ü'\n'x-auth-token', 'x'", "'é', 'ü'\n'x-auth-token', '#'");
    }
}
