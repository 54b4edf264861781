//! What stands below a name in lines that are indented: blocks and texts, maps and lists of YAML.

use super::scan::looked;
use super::words::{is_name, line_len};
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

/// What is deeper than a name.
pub(super) struct Indent {
    /// Column of the name.
    pub column: usize,
    /// Each line begins with a time, as the name's does.
    pub has_time: bool,
}

impl Indent {
    /// A line without its time.
    fn text<'a>(&self, line: &'a str) -> &'a str {
        &line[if self.has_time { time_len(line) } else { 0 }..]
    }

    /// The lines that stand deeper, and blank ones among them: where they begin, and how long they are.
    fn content(&self, below: &str) -> (usize, usize) {
        let mut length = 0;
        for line in below.split_inclusive('\n') {
            let text = self.text(line);
            let depth = text.len() - text.trim_start_matches(' ').len();
            if !text.trim().is_empty() && depth <= self.column {
                break;
            }
            looked(line.len());
            length += line.len();
        }
        let content = below[..length].trim_end();
        let text = self.text(content);
        let start = content.len() - text.trim_start().len();
        (start, content.len() - start)
    }
}

/// The content of a block of YAML (`|`, `>-`).
pub(super) fn block(value: &str, indent: &Indent) -> Option<(usize, usize)> {
    let head = &value[..line_len(value)];
    let below = value[head.len()..].strip_prefix("\r").unwrap_or(&value[head.len()..]);
    let below = below.strip_prefix('\n')?;
    let marks = head.strip_prefix(['|', '>'])?.split('#').next().unwrap_or_default();
    let is_mark = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-');
    if !marks.trim_end().bytes().all(is_mark) {
        return None;
    }
    let (start, length) = indent.content(below);
    Some((value.len() - below.len() + start, length))
}

/// A text on the lines below its name. A map or list there has names of its own.
pub(super) fn below(value: &str, indent: &Indent) -> Option<(usize, usize)> {
    let below = value.strip_prefix('\r').unwrap_or(value).strip_prefix('\n')?;
    let (start, length) = indent.content(below);
    let content = &below[start..start + length];
    let first = &content[..line_len(content)];
    let is_map = !first.starts_with(['"', '\'']) && (first.contains(": ") || first.trim_end().ends_with(':'));
    let is_structure = is_map || first.starts_with(['{', '[']) || first.starts_with("- ");
    (length > 0 && !is_structure).then_some((value.len() - below.len() + start, length))
}

/// The values of a map, or the items of a list, on the lines below its name: where each begins, and how long it is. None of
/// one that holds more than texts, or says where a secret is and not what it is.
pub(super) fn values(value: &str, indent: &Indent) -> Vec<(usize, usize)> {
    let below = value.strip_prefix('\r').unwrap_or(value).strip_prefix('\n');
    let Some(below) = below else { return Vec::new() };
    let (mut found, mut deep) = (Vec::new(), None);
    let mut at = value.len() - below.len();
    for line in below.split_inclusive('\n') {
        let text = indent.text(line);
        let words = text.trim_start_matches(' ');
        let (column, begin) = (text.len() - words.len(), at + line.len() - words.len());
        at += line.len();
        let words = words.trim_end();
        if words.is_empty() {
            continue;
        }
        looked(line.len());
        let is_item = words.starts_with("- ");
        if column < indent.column || (column == indent.column && !is_item) {
            break;
        }
        let held = if is_item { item(words) } else { of_map(words) };
        let Some((from, length)) = held.filter(|_| *deep.get_or_insert(column) == column) else {
            return Vec::new();
        };
        if !matches!(&words[from..from + length], "" | "true" | "false" | "null" | GONE) {
            found.push((begin + from, length));
        }
    }
    found
}

/// `- text`
fn item(words: &str) -> Option<(usize, usize)> {
    let text = words[1..].trim_start();
    let (from, length) = plain(text)?;
    let is_map = from == 0 && (text.contains(": ") || text.ends_with(':'));
    (!is_map).then_some((words.len() - text.len() + from, length))
}

/// `name: text`
fn of_map(words: &str) -> Option<(usize, usize)> {
    let (name, text) = words.split_once(": ")?;
    let quoted = ['"', '\'']
        .iter()
        .find_map(|quote| name.strip_prefix(*quote)?.strip_suffix(*quote));
    let name = quoted.unwrap_or(name);
    if name.is_empty() || !name.chars().all(is_name) || WHEREABOUTS.contains(&name) {
        return None;
    }
    let text = text.trim_start();
    let (from, length) = plain(text)?;
    Some((words.len() - text.len() + from, length))
}

/// A text without its quotes; no structure, and no head of a block.
fn plain(text: &str) -> Option<(usize, usize)> {
    let quote = text.starts_with(['"', '\'']).then(|| &text[..1]);
    match quote {
        Some(quote) if text.len() > 1 && text.ends_with(quote) => Some((1, text.len() - 2)),
        _ => (!text.starts_with(['{', '[', '|', '>'])).then_some((0, text.len())),
    }
}
