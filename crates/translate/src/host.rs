//! Host names: short names, wildcards, which of two patterns is the more specific.

use std::borrow::Cow;
use std::cmp::Ordering;

/// Whether a pattern covers a host. A pattern is a host, `*`, or `*` and a suffix; a host may be a pattern itself.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        None => pattern.eq_ignore_ascii_case(host),
        Some(suffix) => ends_with(host.strip_prefix('*').unwrap_or(host), suffix),
    }
}

fn ends_with(text: &str, suffix: &str) -> bool {
    text.len() >= suffix.len()
        && text.is_char_boundary(text.len() - suffix.len())
        && text[text.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

/// A host in lower case.
pub(crate) fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Whether two patterns have a host in common.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

/// Whether it is a pattern.
pub(crate) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// More specific first: hosts before patterns, longer before shorter, then by text.
pub(crate) fn by_specificity(a: &str, b: &str) -> Ordering {
    is_wildcard(a)
        .cmp(&is_wildcard(b))
        .then_with(|| b.len().cmp(&a.len()))
        .then_with(|| a.cmp(b))
}

/// Whether a host is no short name, or no name at all.
pub(crate) fn is_full_name(host: &str) -> bool {
    host.is_empty() || host.contains('.') || host.starts_with('*')
}

/// Full name of a host that an object in `namespace` mentions: a name without dots is a service of its namespace.
pub(crate) fn full_name(host: &str, namespace: &str, domain: &str) -> String {
    if is_full_name(host) {
        host.to_owned()
    } else {
        format!("{host}.{namespace}.svc.{domain}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_what_ends_with_them() {
        let check = |pattern, host, expected| assert_eq!(covers(pattern, host), expected, "{pattern} {host}");
        check("a.com", "a.com", true);
        check("a.com", "b.a.com", false);
        check("*.a.com", "b.a.com", true);
        check("*.a.com", "a.com", false);
        check("*", "a.com", true);
        check("*.com", "*.a.com", true);
        check("*.a.com", "*.com", false);
        check("*é", "é", true);
    }

    #[test]
    fn specific_patterns_come_first() {
        let mut hosts = ["*", "*.com", "a.com", "*.a.com", "b.a.com"];
        hosts.sort_by(|a, b| by_specificity(a, b));
        assert_eq!(hosts, ["b.a.com", "a.com", "*.a.com", "*.com", "*"]);
    }
}
