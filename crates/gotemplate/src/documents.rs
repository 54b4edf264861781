//! A YAML stream cut into its documents, as kubectl and Helm cut it: at lines that are `---`.
//!
//! The cut comes before any reading, so that a document that cannot be read spoils no other, and so that texts can be
//! passed on as they were written.

/// One document of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// Its text, without separators.
    pub text: &'a str,
    /// Lines of the stream before it.
    pub before: usize,
    /// The first line of the stream (from 1) that says something in it.
    pub line: usize,
}

/// Documents with content: neither empty nor only comments.
pub fn documents(stream: &str) -> impl Iterator<Item = Document<'_>> {
    let mut rest = Some((stream, 0));
    std::iter::from_fn(move || {
        let (text, before) = rest?;
        let mut at = 0;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            if line.trim_end() == "---" || line.starts_with("--- ") {
                rest = Some((&text[at + line.len()..], before + number + 1));
                return Some((&text[..at], before));
            }
            at += line.len();
        }
        rest = None;
        Some((text, before))
    })
    .filter_map(|(text, before)| {
        let says = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let first = text.lines().position(says)?;
        Some(Document {
            text,
            before,
            line: before + first + 1,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stream: &str, expected: &[(&str, usize, usize)]) {
        let found: Vec<_> = documents(stream)
            .map(|document| (document.text, document.before, document.line))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_stream_is_cut_at_its_separators() {
        check(
            "a: 1\n---\n# nothing\n---\nb: |\n  --- x\n",
            &[("a: 1\n", 0, 1), ("b: |\n  --- x\n", 4, 5)],
        );
        check("# only a comment\n---\n\n# one\na: 1", &[("\n# one\na: 1", 2, 5)]);
        check("---\n\n--- # next\n", &[]);
        check("", &[]);
    }
}
