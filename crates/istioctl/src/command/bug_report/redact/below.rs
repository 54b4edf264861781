//! Secrets in lines: `password: text` with the lines that the text goes on in, blocks, and what stands deeper than a name
//! of secrets, as in YAML. Each text is judged by itself, so that what is beside it hides none.

use std::borrow::Cow;

use super::cut::Cut;
use super::name::{Name, is_public};
use super::scan::looked;
use super::words::{is_name, quoted_len};
use super::{GONE, WHEREABOUTS};

/// How much of a line's beginning is the time that Kubernetes puts before each line of a log, and the blank after it.
pub(super) fn time_len(line: &str) -> usize {
    const LONGEST: usize = 40;
    let is_time = |word: &str| {
        let mut bytes = word.bytes();
        word.len() > 18 && word.contains('T') && bytes.all(|byte| byte.is_ascii_digit() || b"-:.+TZ".contains(&byte))
    };
    match line.bytes().take(LONGEST).position(|byte| byte == b' ') {
        Some(end) if is_time(&line[..end]) => end + 1,
        _ => 0,
    }
}

/// Takes secrets out line by line.
pub(super) fn lines<'a>(text: &'a str, replaced: &mut usize) -> Cow<'a, str> {
    let mut lines = Lines {
        text,
        cut: Cut::new(text),
        above: Vec::new(),
        taking: None,
        replaced,
    };
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        looked(line.len());
        lines.line(line, at);
        at += line.len();
    }
    lines.end();
    lines.cut.finish()
}

/// A name of secrets that stands above.
struct Above {
    column: usize,
    /// Column of the names right below it.
    direct: Option<usize>,
}

/// A secret that may go on in lines that are deeper.
struct Taking {
    column: usize,
    kind: Kind,
    /// Where it begins and ends, as far as is known.
    range: Option<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing stands beside the name: a text may be below it, or a structure.
    Unknown,
    /// It goes on up to what is a structure.
    Text,
    /// All that is deeper belongs to it.
    Block,
}

struct Lines<'a, 'b> {
    text: &'a str,
    cut: Cut<'a>,
    above: Vec<Above>,
    taking: Option<Taking>,
    replaced: &'b mut usize,
}

impl Lines<'_, '_> {
    fn line(&mut self, line: &str, at: usize) {
        let body = &line[time_len(line)..];
        let words = body.trim_start_matches([' ', '\t']);
        let (column, begin) = (body.len() - words.len(), at + line.len() - words.len());
        let words = words.trim_end();
        if words.is_empty() || self.goes_on(column, begin, words) {
            return;
        }
        self.end();
        let inner = without_dashes(words);
        let dashes = words.len() - inner.len();
        let is_below =
            |above: &Above| column > above.column || (column == above.column && (dashes > 0 || words == "-"));
        while self.above.last().is_some_and(|above| !is_below(above)) {
            self.above.pop();
        }
        if inner.starts_with('#') {
            return;
        }
        if let Some((name, skipped)) = field(inner) {
            self.field(name, column + dashes, begin + dashes + skipped, &inner[skipped..]);
        } else if dashes > 0 && !self.above.is_empty() {
            self.take(column, begin + dashes, inner);
        }
    }

    /// Whether the line belongs to what is being taken out.
    fn goes_on(&mut self, column: usize, begin: usize, words: &str) -> bool {
        let Some(taking) = self.taking.as_mut().filter(|taking| column > taking.column) else {
            return false;
        };
        let is_comment = words.starts_with('#');
        match taking.kind {
            Kind::Unknown if is_comment => return true,
            Kind::Unknown | Kind::Text if is_comment || is_structure(words) => return false,
            Kind::Unknown => taking.kind = Kind::Block,
            Kind::Text | Kind::Block => {}
        }
        let from = taking.range.map_or(begin, |(from, _)| from);
        taking.range = Some((from, begin + words.len()));
        true
    }

    /// A name with what stands beside it.
    fn field(&mut self, name: &str, column: usize, from: usize, value: &str) {
        let is_direct = (self.above.last_mut()).is_some_and(|above| column <= *above.direct.get_or_insert(column));
        let holds = is_direct && !WHEREABOUTS.contains(&name) && !is_public(name);
        let (is_taken, has_secrets) = (holds || Name(name).is_secret(), Name(name).has_secrets());
        let is_empty = value.is_empty() || value.starts_with('#');
        // `credentials: &name`
        let is_mark = value.starts_with(['&', '!']) && !value.contains(' ');
        if has_secrets && (is_empty || is_mark || matches!(value, "{" | "[")) {
            self.above.push(Above { column, direct: None });
        }
        if is_empty && (is_taken || has_secrets) {
            self.taking = Some(Taking {
                column,
                kind: Kind::Unknown,
                range: None,
            });
        } else if is_taken {
            self.take(column, from, value);
        }
    }

    /// A text goes.
    fn take(&mut self, column: usize, from: usize, value: &str) {
        let (kind, start, length) = match value.as_bytes().first() {
            None | Some(b'{' | b'[' | b'}' | b']') => return,
            Some(b'|' | b'>') if is_head(value) => (Kind::Block, 0, 0),
            Some(quote @ (b'"' | b'\'')) => match quoted_len(&value[1..], 0, *quote) {
                Some(length) => return self.out(from + 1, from + 1 + length),
                None => (Kind::Block, 1, value.len() - 1),
            },
            Some(_) => (Kind::Text, 0, value.trim_end_matches(',').len()),
        };
        let range = (from + start, from + start + length);
        self.taking = Some(Taking {
            column,
            kind,
            range: (length > 0).then_some(range),
        });
    }

    /// What is being taken has ended.
    fn end(&mut self) {
        if let Some((from, to)) = self.taking.take().and_then(|taking| taking.range) {
            self.out(from, to);
        }
    }

    fn out(&mut self, from: usize, to: usize) {
        if !is_nothing(&self.text[from..to]) {
            self.cut.out(from, to, self.replaced);
        }
    }
}

/// What is no secret, whatever its name.
pub(super) fn is_nothing(text: &str) -> bool {
    matches!(text, "" | "true" | "false" | "null" | "nil" | "~" | ">" | GONE)
}

/// An item of a list, or of a list in one.
fn without_dashes(words: &str) -> &str {
    let mut inner = words;
    while let Some(rest) = inner.strip_prefix("- ") {
        inner = rest.trim_start();
    }
    inner
}

/// `name: value`: the name, and where the value begins.
fn field(words: &str) -> Option<(&str, usize)> {
    let quote = words.chars().next().filter(|first| matches!(first, '"' | '\''));
    let (name, rest) = match quote {
        Some(quote) => words[1..].split_once(quote)?,
        None => words.split_at(words.find(|c| !is_name(c) && c != '/')?),
    };
    let value = rest.trim_start_matches([' ', '\t']).strip_prefix(':')?;
    if name.is_empty() || (quote.is_none() && !value.is_empty() && !value.starts_with([' ', '\t'])) {
        return None;
    }
    Some((name, words.len() - value.trim_start_matches([' ', '\t']).len()))
}

/// Whether a line is part of a map or list, not of a text.
fn is_structure(words: &str) -> bool {
    let is_map = !words.starts_with(['"', '\'']) && (words.contains(": ") || words.ends_with(':'));
    is_map || field(words).is_some() || words.starts_with(['{', '[']) || words.starts_with("- ")
}

/// The head of a block (`|`, `>-`).
fn is_head(value: &str) -> bool {
    let marks = value[1..].split('#').next().unwrap_or_default();
    let is_mark = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-');
    marks.trim_end().bytes().all(is_mark)
}
