//! Users and passwords in addresses.

use std::borrow::Cow;

use super::GONE;
use super::cut::Cut;
use super::scan::{find, rfind};

/// `scheme://user:password@host`.
pub fn addresses<'a>(text: &'a str, replaced: &mut usize) -> Cow<'a, str> {
    if !text.contains("://") || !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut cut = Cut::new(text);
    // Several addresses may stand in one word, which is looked at once: where it ends, and its last `@`.
    let (mut end, mut last) = (0, None);
    for (at, sign) in text.match_indices("://") {
        let from = at + sign.len();
        if from < cut.done() {
            continue;
        }
        if from >= end {
            end = from + find(&text[from..], is_blank_or_quote).unwrap_or(text.len() - from);
            last = rfind(&text[from..end], |c| c == '@').map(|at| from + at);
        }
        let after = &text[from..end];
        let authority = &after[..find(after, |c| matches!(c, '/' | '?' | '#')).unwrap_or(after.len())];
        // A password may have a slash that nobody escaped; a port is a number.
        let is_odd = authority.split_once(':').is_some_and(|(host, port)| {
            !host.starts_with('[') && !host.is_empty() && !port.bytes().all(|byte| byte.is_ascii_digit())
        });
        let user = rfind(authority, |c| c == '@').map(|at| from + at);
        let Some(user) = user.or(last.filter(|last| is_odd && *last > from)) else {
            continue;
        };
        if user > from && &text[from..user] != GONE {
            cut.out(from, user, replaced);
        }
    }
    cut.finish()
}

fn is_blank_or_quote(c: char) -> bool {
    c.is_whitespace() || "\"'`<>\\".contains(c)
}

/// `user:password@tcp(host:port)/base`, as drivers of MySQL take it.
pub fn sockets<'a>(text: &'a str, replaced: &mut usize) -> Cow<'a, str> {
    let mut cut = Cut::new(text);
    // Where the word begins that is looked at, and up to where it has been: there was no colon.
    let (mut start, mut seen) = (0, 0);
    for (at, _) in text.match_indices('@') {
        if at < seen || !["@tcp(", "@unix("].iter().any(|sign| text[at..].starts_with(sign)) {
            continue;
        }
        let new = &text[seen..at];
        let from = seen;
        if let Some(last) = rfind(new, is_blank_or_quote) {
            start = seen + last + last_len(new, last);
        }
        seen = at;
        let from = from.max(start);
        let Some(colon) = find(&text[from..at], |c| c == ':') else {
            continue;
        };
        let word = &text[start..from + colon];
        let from = start + rfind(word, |c| c == '=').map_or(0, |sign| sign + 1);
        cut.out(from, at, replaced);
        start = at;
    }
    cut.finish()
}

/// Bytes of the character at a place.
pub fn last_len(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(1, char::len_utf8)
}
