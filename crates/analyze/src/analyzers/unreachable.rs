//! Rules of VirtualServices that no request ever reaches.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{list, text};
use crate::message::{Code, INEFFECTIVE_MATCH, Message, UNREACHABLE_RULE};

/// Most findings of one object: more are counted. Nested prefixes are a finding a pair, so that what is found would
/// grow with the square of what is written.
const MOST_FINDINGS: usize = 100;
/// Most comparisons of one object, a match or a field of one each: about a second's work. 1,400 matches without headers
/// stay below it.
const MOST_COMPARISONS: usize = 1_000_000;
/// Longest name or path that is shown, in bytes: every finding repeats it.
const LONGEST_SHOWN: usize = 256;

/// What is found in one object.
struct Findings<'a> {
    service: &'a Value,
    messages: &'a mut Vec<Message>,
    told: usize,
    untold: usize,
}

impl Findings<'_> {
    fn add(&mut self, code: Code, text: impl FnOnce() -> String) {
        if self.told == MOST_FINDINGS {
            self.untold += 1;
            return;
        }
        self.told += 1;
        self.messages.push(Message::about(code, self.service, text()));
    }
}

/// A match by the beginning of the path, and all else that it asks for.
struct Prefix<'a> {
    rule: String,
    name: String,
    path: &'a str,
    port: &'a Value,
    method: String,
    authority: String,
    headers: BTreeMap<&'a str, String>,
    parameters: BTreeMap<&'a str, String>,
    without_headers: BTreeMap<&'a str, String>,
}

pub(super) fn check(service: &Value, messages: &mut Vec<Message>) {
    let mut findings = Findings {
        service,
        messages,
        told: 0,
        untold: 0,
    };
    let mut are_compared = true;
    for kind in ["http", "tcp", "tls"] {
        let rules: Vec<&Value> = list(service, &format!("/spec/{kind}")).collect();
        let prefixes = duplicates(&rules, kind == "http", &mut findings);
        are_compared &= covered(&prefixes, &mut findings);
    }
    let untold = findings.untold;
    let mut report = |code, text: String| messages.push(Message::about(code, service, text));
    if untold > 0 {
        report(
            UNREACHABLE_RULE,
            format!("VirtualService has {untold} more rules or matches that are not used."),
        );
    }
    if !are_compared {
        report(
            INEFFECTIVE_MATCH,
            "VirtualService has too many matches by prefix to compare them all; split it to learn which are not used."
                .to_owned(),
        );
    }
}

/// A text, or the beginning of one that is too long to be repeated.
fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_SHOWN)).unwrap_or(text)
}

/// `"name"` if it has one, else `#index`; only rules of HTTP have names.
fn shown(value: &Value, index: usize, has_names: bool) -> String {
    match text(value, "/name") {
        name if has_names && !name.is_empty() => format!("{:?}", shortened(name)),
        _ => format!("#{index}"),
    }
}

fn duplicates<'a>(rules: &[&'a Value], is_http: bool, findings: &mut Findings<'_>) -> Vec<Prefix<'a>> {
    let unused = |rule: &str, why: &str| format!("VirtualService rule {rule} not used ({why}).");
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut takes_everything = false;
    let mut prefixes = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let name = shown(rule, index, is_http);
        let matches: Vec<&Value> = list(rule, "/match").collect();
        if matches.is_empty() {
            if takes_everything {
                findings.add(UNREACHABLE_RULE, || {
                    unused(&name, "only the last rule can have no matches")
                });
            }
            takes_everything = true;
            continue;
        }
        let mut repeated = 0;
        for (at, single) in matches.iter().enumerate() {
            if takes_everything {
                findings.add(UNREACHABLE_RULE, || {
                    unused(&name, "route without matches defined before")
                });
                continue;
            }
            let content = without_name(single, is_http);
            if let Some(first) = known.get(&content) {
                findings.add(INEFFECTIVE_MATCH, || {
                    let earlier = shown(rules[*first], *first, is_http);
                    ineffective(&name, &shown(single, at, is_http), &earlier)
                });
                repeated += 1;
                continue;
            }
            known.insert(content, index);
            if is_http {
                prefixes.extend(prefix(single, name.clone(), at));
            }
        }
        if repeated == matches.len() {
            findings.add(UNREACHABLE_RULE, || unused(&name, "all matches used by prior rules"));
        }
    }
    prefixes
}

fn ineffective(rule: &str, single: &str, earlier: &str) -> String {
    format!("VirtualService rule {rule} match {single} is not used (duplicate/overlapping match in rule {earlier}).")
}

fn without_name(single: &Value, is_http: bool) -> String {
    let mut content = single.clone();
    if let (true, Some(fields)) = (is_http, content.as_object_mut()) {
        fields.remove("name");
    }
    content.to_string()
}

/// How a text is compared: exactly, or by its beginning; empty for anything else.
fn comparison(value: &Value) -> String {
    match (text(value, "/exact"), text(value, "/prefix")) {
        ("", "") => String::new(),
        ("", prefix) => format!("prefix{prefix}"),
        (exact, _) => format!("exact{exact}"),
    }
}

fn prefix(single: &Value, rule: String, index: usize) -> Option<Prefix<'_>> {
    let path = single
        .pointer("/uri/prefix")?
        .as_str()
        .filter(|path| !path.is_empty())?;
    let map = |field: &str| {
        let fields = single[field].as_object().into_iter().flatten();
        fields.map(|(key, value)| (key.as_str(), comparison(value))).collect()
    };
    let method = match comparison(&single["method"]) {
        method if method.is_empty() => "exactGET".to_owned(),
        method => method,
    };
    Some(Prefix {
        rule,
        name: shown(single, index, true),
        path,
        port: &single["port"],
        method,
        authority: comparison(&single["authority"]),
        headers: map("headers"),
        parameters: map("queryParams"),
        without_headers: map("withoutHeaders"),
    })
}

impl Prefix<'_> {
    /// Whether all that a later match takes is taken by this one.
    fn covers(&self, later: &Self) -> bool {
        let same_or_longer = |own: &str, other: &str| own.starts_with(other);
        let maps = |own: &BTreeMap<&str, String>, other: &BTreeMap<&str, String>| {
            own.len() == other.len()
                && own
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|other| same_or_longer(value, other)))
        };
        later.path.starts_with(self.path)
            && self.port == later.port
            && same_or_longer(&self.method, &later.method)
            && same_or_longer(&self.authority, &later.authority)
            && maps(&self.headers, &later.headers)
            && maps(&self.parameters, &later.parameters)
            && maps(&self.without_headers, &later.without_headers)
    }
}

/// Whether all were compared, each with each.
fn covered(prefixes: &[Prefix<'_>], findings: &mut Findings<'_>) -> bool {
    let mut left = MOST_COMPARISONS;
    for (at, earlier) in prefixes.iter().enumerate() {
        let cost = 1 + earlier.headers.len() + earlier.parameters.len() + earlier.without_headers.len();
        let later = &prefixes[at + 1..];
        let Some(rest) = left.checked_sub(cost.saturating_mul(later.len())) else {
            return false;
        };
        left = rest;
        for later in later.iter().filter(|later| later.path != earlier.path) {
            if earlier.covers(later) {
                findings.add(INEFFECTIVE_MATCH, || {
                    let single = format!("{} of prefix {}", later.name, shortened(later.path));
                    let by = format!(
                        "{} of prefix {} on {}",
                        earlier.name,
                        shortened(earlier.path),
                        earlier.rule
                    );
                    ineffective(&later.rule, &single, &by)
                });
            }
        }
    }
    true
}
