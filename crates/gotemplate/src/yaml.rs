//! YAML as Kubernetes' Go programs write it, byte for byte: the same quotes, the same indentation.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::Value;

/// Block YAML of a JSON value, without a final line break. Keys keep the order of the value.
pub fn to_yaml(json: &Value) -> String {
    written(json, None)
}

/// The same with long texts broken at blanks, as in the files of Kubernetes' programs. A text that is searched or
/// compared line by line is better off without.
pub fn to_wrapped_yaml(json: &Value) -> String {
    written(json, Some(WIDTH))
}

/// Column behind which a text goes on in the next line.
const WIDTH: usize = 80;

fn written(json: &Value, width: Option<usize>) -> String {
    let mut text = String::new();
    match json {
        Value::Object(fields) if !fields.is_empty() => mapping(&mut text, fields, 0, width),
        Value::Array(items) if !items.is_empty() => sequence(&mut text, items, 0, width),
        scalar => {
            text.push_str(&flat(scalar, 0));
            text.push('\n');
        }
    }
    text.truncate(text.trim_end_matches('\n').len());
    text
}

/// The same value with its keys sorted at every level, in the order of Go's YAML: [`key_order`].
pub fn sorted(json: &Value) -> Value {
    match json {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|(left, _), (right, _)| key_order(left, right));
            Value::Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (key.clone(), sorted(value)))
                    .collect(),
            )
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        scalar => scalar.clone(),
    }
}

/// Go's YAML sorts letters behind everything else (but right behind digits before it), and digits as numbers.
fn key_order(left: &str, right: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let Some(at) = left.iter().zip(&right).position(|(a, b)| a != b) else {
        return left.len().cmp(&right.len());
    };
    let (a, b) = (left[at], right[at]);
    let before = left[..at].iter().rev().take_while(|c| c.is_ascii_digit());
    match (a.is_alphabetic(), b.is_alphabetic()) {
        (true, true) => return a.cmp(&b),
        (false, false) => {}
        (letter, _) => {
            let follows_digit = at > 0 && left[at - 1].is_ascii_digit();
            return if letter == follows_digit {
                Ordering::Less
            } else {
                Ordering::Greater
            };
        }
    }
    // A zero counts if it is not the first digit.
    let begun = (a == '0' || b == '0') && before.clone().any(|c| *c != '0');
    let number = |text: &[char]| {
        let digits = text[at..].iter().map_while(|c| c.to_digit(10));
        let length = digits.clone().count();
        let value = digits.fold(u128::from(begun), |sum, digit| {
            sum.saturating_mul(10).saturating_add(u128::from(digit))
        });
        (value, length)
    };
    number(&left).cmp(&number(&right)).then(a.cmp(&b))
}

fn mapping(text: &mut String, fields: &serde_json::Map<String, Value>, indent: usize, width: Option<usize>) {
    for (index, (key, value)) in fields.iter().enumerate() {
        if index > 0 {
            pad(text, indent);
        }
        let _ = write!(text, "{}:", scalar_text(key, indent));
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                pad(text, indent + 2);
                mapping(text, inner, indent + 2, width);
            }
            // A list stands under its key without further indentation.
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                pad(text, indent);
                sequence(text, items, indent, width);
            }
            scalar => {
                text.push(' ');
                push_flat(text, &flat(scalar, indent + 2), indent + 2, width);
            }
        }
    }
}

fn sequence(text: &mut String, items: &[Value], indent: usize, width: Option<usize>) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            pad(text, indent);
        }
        text.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => mapping(text, inner, indent + 2, width),
            Value::Array(inner) if !inner.is_empty() => sequence(text, inner, indent + 2, width),
            scalar => push_flat(text, &flat(scalar, indent + 2), indent + 2, width),
        }
    }
}

/// Adds a value and the end of its line. One that is wider than asked goes on in further lines, which begin at `indent`.
fn push_flat(text: &mut String, value: &str, indent: usize, width: Option<usize>) {
    let width = width.filter(|_| !value.contains('\n')).unwrap_or(usize::MAX);
    let mut column = text.chars().rev().take_while(|c| *c != '\n').count();
    let doubly_quoted = value.starts_with('"');
    // A blank at either end of a quoted text stays where it is.
    let quotes = usize::from(value.starts_with(['"', '\'']));
    let last = value.chars().count().saturating_sub(1 + quotes);
    let mut characters = value.chars().enumerate().peekable();
    let mut after_blank = false;
    while let Some((at, c)) = characters.next() {
        let before_blank = characters.peek().is_some_and(|(_, next)| *next == ' ');
        let may_break = !after_blank && (doubly_quoted || !before_blank) && at > quotes && at < last;
        if c == ' ' && column > width && may_break {
            text.push('\n');
            pad(text, indent);
            column = indent;
            if before_blank {
                text.push('\\');
                column += 1;
            }
        } else {
            text.push(c);
            column += 1;
        }
        after_blank = c == ' ';
    }
    text.push('\n');
}

fn pad(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

/// A value that fits behind its key; a text of several lines continues at `indent`.
fn flat(value: &Value, indent: usize) -> String {
    match value {
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        Value::String(text) => scalar_text(text, indent),
        other => other.to_string(),
    }
}

fn scalar_text(text: &str, indent: usize) -> String {
    let printable = |c: char| {
        c == '\n' || c == '\t' || (c >= ' ' && c != '\u{7f}' && !('\u{80}'..'\u{a0}').contains(&c) && c != '\u{feff}')
    };
    let blank_before_break = text.contains(" \n");
    if !text.chars().all(printable) || (text.contains('\n') && blank_before_break) {
        return double_quoted(text);
    }
    if text.contains('\n') {
        return literal(text, indent);
    }
    if is_other_type(text) {
        return double_quoted(text);
    }
    if !is_plain(text) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    text.to_owned()
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\0' => quoted.push_str("\\0"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{1b}' => quoted.push_str("\\e"),
            '\u{feff}' => quoted.push_str("\\uFEFF"),
            c if (c as u32) < 0x20 || (0x7f..0xa0).contains(&(c as u32)) => {
                let _ = write!(quoted, "\\x{:02X}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A block of lines, `|`.
fn literal(text: &str, indent: usize) -> String {
    let mut block = "|".to_owned();
    // A reader takes the indentation from the first line, so a first line with blanks of its own needs a hint.
    if text.starts_with([' ', '\n']) {
        block.push('2');
    }
    if !text.ends_with('\n') {
        block.push('-');
    } else if text.ends_with("\n\n") || text == "\n" {
        block.push('+');
    }
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        block.push('\n');
        if !line.is_empty() {
            pad(&mut block, indent.max(2));
            block.push_str(line);
        }
    }
    block
}

/// Whether a text without quotes would be read as something else than text.
fn is_other_type(text: &str) -> bool {
    const WORDS: [&str; 11] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", "<<"];
    if text.is_empty() || WORDS.iter().any(|word| same_word(word, text)) {
        return true;
    }
    is_number(text) || is_date(text)
}

/// Words count in lower case, in upper case and with a capital.
fn same_word(word: &str, text: &str) -> bool {
    let capital = || {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    text == word || text == word.to_ascii_uppercase() || Some(text.to_owned()) == capital()
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let plain: String = unsigned.chars().filter(|c| *c != '_').collect();
    let digits = |text: &str, test: fn(&char) -> bool| !text.is_empty() && text.chars().all(|c| test(&c));
    let based = [
        ("0x", (|c| c.is_ascii_hexdigit()) as fn(&char) -> bool),
        ("0b", |c| matches!(c, '0' | '1')),
        ("0o", |c| ('0'..='7').contains(c)),
    ];
    if based
        .iter()
        .any(|(prefix, test)| plain.strip_prefix(prefix).is_some_and(|rest| digits(rest, *test)))
    {
        return true;
    }
    let decimal: fn(&char) -> bool = |c| c.is_ascii_digit();
    if !plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    // Base 60, which old readers take for a time: 12:30:45.
    if plain.contains(':') {
        let mut parts = plain.split(':');
        let first = parts.next().unwrap_or_default();
        return digits(first, decimal)
            && parts.all(|part| {
                let part = part.split('.').next().unwrap_or_default();
                (1..=2).contains(&part.len()) && digits(part, decimal) && part.parse::<u8>().is_ok_and(|n| n < 60)
            });
    }
    let (mantissa, exponent) = plain
        .split_once(['e', 'E'])
        .map_or((plain.as_str(), None), |(m, e)| (m, Some(e)));
    let exponent_ok = exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e), decimal));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let mantissa_ok = match fraction {
        None => digits(whole, decimal),
        Some(fraction) => {
            (whole.is_empty() || digits(whole, decimal))
                && (fraction.is_empty() || digits(fraction, decimal))
                && mantissa != "."
        }
    };
    exponent_ok && mantissa_ok
}

/// `12:30:45.5Z`, `12:30:45 +01:00`.
fn is_time(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_digit() || matches!(c, ':' | '.' | 'Z' | 'z' | '+' | '-' | ' '))
}

/// `2024-01-31`, perhaps with a time behind it.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(3, '-').collect();
    let [year, month, rest] = parts[..] else { return false };
    let number =
        |text: &str, longest: usize| (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let day: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let after = &rest[day.len()..];
    year.len() == 4
        && number(year, 4)
        && number(month, 2)
        && number(&day, 2)
        && (after.is_empty() || after.strip_prefix(['T', 't', ' ']).is_some_and(is_time))
}

/// Whether a text can stand without quotes.
fn is_plain(text: &str) -> bool {
    let mut characters = text.chars().peekable();
    let Some(first) = characters.next() else { return false };
    if text.starts_with(' ') || text.ends_with(' ') || text.starts_with("---") || text.starts_with("...") {
        return false;
    }
    let before_blank = |next: Option<&char>| next.is_none_or(|c| c.is_whitespace());
    match first {
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' | '=' => {
            return false;
        }
        '-' | '?' | ':' if before_blank(characters.peek()) => return false,
        _ => {}
    }
    let mut previous = first;
    while let Some(c) = characters.next() {
        match c {
            ':' if before_blank(characters.peek()) => return false,
            '#' if previous.is_whitespace() => return false,
            '\t' => return false,
            _ => {}
        }
        previous = c;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expected: &str) {
        assert_eq!(to_yaml(&json!({ "k": text })), format!("k: {expected}"), "{text:?}");
        let read: Result<Value, _> = serde_saphyr::from_str(&to_yaml(&json!({ "k": text })));
        assert_eq!(read.ok(), Some(json!({ "k": text })), "and back");
    }

    #[test]
    fn keys_are_sorted_as_go_does() {
        let keys = [
            "A",
            "ISTIO_META_X",
            "ISTIO_METAJSON",
            "a",
            "a-b",
            "ab",
            "v2",
            "v2a",
            "v2-a",
            "v10",
            "v10.1",
        ];
        let mut sorted = keys;
        sorted.reverse();
        sorted.sort_by(|left, right| key_order(left, right));
        assert_eq!(sorted, keys);
    }

    #[test]
    fn texts_are_quoted_as_go_does() {
        for plain in [
            "abc",
            "a b",
            "a:b",
            "a#b",
            "-a",
            "$(X)",
            "/a/b",
            "1.2.3",
            "a,b",
            "1.2.3.4/32",
            "http://a:80",
        ] {
            check(plain, plain);
        }
        for other in [
            "1",
            "15001",
            "1.5",
            "true",
            "yes",
            "Null",
            "~",
            "",
            "0x1F",
            "1e3",
            "12:30",
            "2024-01-31",
            "n",
        ] {
            check(other, &format!("\"{other}\""));
        }
        check("*", "'*'");
        check("{\"a\":1}", "'{\"a\":1}'");
        check("it's: x", "'it''s: x'");
        check("a ", "'a '");
        check("a: b", "'a: b'");
        check("- a", "'- a'");
        check("%d", "'%d'");
    }

    #[test]
    fn several_lines_are_blocks() {
        check("a\nb\n", "|\n  a\n  b");
        check("a\nb", "|-\n  a\n  b");
        check("a \nb", "\"a \\nb\"");
        assert_eq!(to_yaml(&json!({"a": {"b": "x\ny\n"}})), "a:\n  b: |\n    x\n    y");
        assert_eq!(to_yaml(&json!([{"a": "x\ny"}])), "- a: |-\n    x\n    y");
    }

    #[test]
    fn lists_stand_under_their_keys() {
        let json = json!({"a": [{"b": 1, "c": ["x", {}]}, []], "d": {}, "e": null});
        assert_eq!(to_yaml(&json), "a:\n- b: 1\n  c:\n  - x\n  - {}\n- []\nd: {}\ne: null");
    }

    #[test]
    fn long_texts_are_broken_at_blanks_where_that_is_asked_for() {
        let check = |value: &str, expected: &str| {
            let json = json!({"key": [value]});
            let text = to_wrapped_yaml(&json);
            assert_eq!(text, format!("key:\n- {expected}"));
            let read: Result<Value, _> = serde_saphyr::from_str(&text);
            assert_eq!(read.ok(), Some(json), "and back");
        };
        let start = "x".repeat(78);
        check(&format!("{start} a b"), &format!("{start} a\n  b"));
        check(&format!("{start} 'a  b c"), &format!("{start} 'a  b\n  c"));
        check(&format!("[{start} a]"), &format!("'[{start}\n  a]'"));
        check(&format!("{start}\u{7}   b"), &format!("\"{start}\\a\n  \\  b\""));
        let long = "x".repeat(200);
        check(&long, &long);
        let json = json!({"key": format!("{start} {start} {start}")});
        assert!(!to_yaml(&json).contains('\n'));
    }
}
