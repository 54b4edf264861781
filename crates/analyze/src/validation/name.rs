//! What is a name: of a host, of a port, of a label.

use std::collections::{BTreeMap, BTreeSet};

/// Longest label of a host name, and longest name of a Kubernetes label.
const LONGEST_LABEL: usize = 63;
/// Longest host name.
const LONGEST_DOMAIN: usize = 255;

fn is_inner(text: &str, others: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || others.contains(byte))
}

/// One label of a host name; names of ports, subsets and namespaces are alike.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && is_inner(text, b"-")
}

/// A label that may be `*`, or begin with it.
fn is_wildcard_label(text: &str) -> bool {
    let rest = text
        .strip_prefix("*-")
        .or_else(|| text.strip_prefix('*'))
        .unwrap_or(text);
    text == "*" || (text.len() <= LONGEST_LABEL && is_label(rest))
}

fn is_length(host: &str) -> bool {
    (1..=LONGEST_DOMAIN).contains(&host.len())
}

/// Labels of a host name; a dot may end it, and the last label is no number, or it would be an address.
fn are_labels(domain: &str) -> bool {
    let (front, last) = domain
        .rsplit_once('.')
        .map_or((None, domain), |(front, last)| (Some(front), last));
    let is_last = last.is_empty() || (last.parse::<i64>().is_err() && is_label(last));
    is_last && front.map_or(!last.is_empty(), |front| front.split('.').all(is_label))
}

/// A complete host name.
pub(super) fn is_domain(host: &str) -> bool {
    is_length(host) && are_labels(host)
}

/// A host name whose first label may be `*`, or begin with it.
pub(super) fn is_domain_or_wildcard(host: &str) -> bool {
    let (first, rest) = host
        .split_once('.')
        .map_or((host, None), |(first, rest)| (first, Some(rest)));
    is_length(host) && is_wildcard_label(first) && rest.is_none_or(|rest| rest.is_empty() || are_labels(rest))
}

/// Hosts, each perhaps beginning with `*`, in which another is found without comparing it with every one.
#[derive(Debug, Default)]
pub(super) struct Hosts<'a> {
    exact: BTreeSet<&'a str>,
    /// What stands behind the `*`.
    wildcards: BTreeSet<&'a str>,
    /// Both, by their last letters first.
    reversed: BTreeMap<Vec<u8>, &'a str>,
}

impl<'a> Hosts<'a> {
    /// What is too long for a host is none, and left out.
    pub(super) fn add(&mut self, host: &'a str) {
        if host.len() > LONGEST_DOMAIN {
            return;
        }
        let end = host.strip_prefix('*');
        match end {
            Some(end) => self.wildcards.insert(end),
            None => self.exact.insert(host),
        };
        self.reversed.entry(reversed(end.unwrap_or(host))).or_insert(host);
    }

    /// One that has a name in common with this host.
    pub(super) fn overlapping(&self, host: &str) -> Option<String> {
        let Some(end) = host.strip_prefix('*') else {
            let exact = self.exact.get(host).map(|host| (*host).to_owned());
            return exact.or_else(|| self.wildcard(host));
        };
        self.wildcard(end).or_else(|| {
            let end = reversed(end);
            let (longer, host) = self.reversed.range(end.clone()..).next()?;
            longer.starts_with(&end).then(|| (*host).to_owned())
        })
    }

    /// Does one stand for all that this host stands for?
    pub(super) fn covers(&self, host: &str) -> bool {
        match host.strip_prefix('*') {
            Some(end) => self.wildcard(end).is_some(),
            None => self.exact.contains(host) || self.wildcard(host).is_some(),
        }
    }

    fn wildcard(&self, name: &str) -> Option<String> {
        if name.len() > LONGEST_DOMAIN {
            return None;
        }
        let mut ends = (0..=name.len()).filter_map(|at| name.get(at..));
        ends.find(|end| self.wildcards.contains(end))
            .map(|end| format!("*{end}"))
    }
}

fn reversed(text: &str) -> Vec<u8> {
    text.bytes().rev().collect()
}

/// A key of a Kubernetes label: a name, perhaps behind a domain and a slash.
pub(super) fn is_label_key(key: &str) -> bool {
    let (domain, name) = key
        .split_once('/')
        .map_or((None, key), |(domain, name)| (Some(domain), name));
    let is_prefix = |domain: &str| domain.len() <= 253 && domain.split('.').all(|label| is_inner(label, b"-"));
    name.len() <= LONGEST_LABEL && is_inner(name, b"-_.") && domain.is_none_or(is_prefix)
}

/// A value of a Kubernetes label.
pub(super) fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_inner(value, b"-_.")
}

/// Characters of the names of HTTP headers (RFC 7230).
pub(super) fn is_header(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["a", "a.b", "A.b", "a.b.", "1.b", "a-b.c"] {
            assert!(is_domain(good) && is_domain_or_wildcard(good), "{good}");
        }
        for wildcard in ["*", "*.a", "*a.b", "*-a.b", "*.a."] {
            assert!(!is_domain(wildcard) && is_domain_or_wildcard(wildcard), "{wildcard}");
        }
        for bad in [
            "", ".", ".a", "a..b", "a_b.c", "-a.b", "a*.b", "a.*.b", "1.2.3.4", "a.1", "*.1", "**.a", "a b",
        ] {
            assert!(!is_domain(bad) && !is_domain_or_wildcard(bad), "{bad}");
        }
    }

    #[test]
    fn hosts_that_mean_the_same() {
        for (a, b, overlapping, covering) in [
            ("*.com", "a.com", true, true),
            ("a.com", "*.com", true, false),
            ("*", "*.com", true, true),
            ("*.a.com", "*.com", true, false),
            ("*.a.com", "a.com", false, false),
            ("a.com", "*", true, false),
            ("*a.com", "*.a.com", true, true),
            ("*", "*", true, true),
            ("*.ä.com", "ä.com", false, false),
            ("a.com", "a.com", true, true),
            ("a.com", "b.com", false, false),
        ] {
            let mut hosts = Hosts::default();
            hosts.add(a);
            let found = hosts.overlapping(b);
            assert_eq!(found, overlapping.then(|| a.to_owned()), "{a} {b}");
            assert_eq!(hosts.covers(b), covering, "{a} {b}");
        }
    }

    #[test]
    fn labels_and_headers() {
        for good in ["a", "a.b/c", "app.kubernetes.io/name", "A_b-c.d"] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "a b"] {
            assert!(!is_label_key(bad), "{bad}");
        }
        assert!(is_label_value("") && is_label_value("v1.2_a") && !is_label_value("-v") && !is_label_value("a*"));
        assert!(is_header("X-A_b.c") && !is_header("") && !is_header("a:b") && !is_header("a b"));
    }
}
