//! Rules of VirtualServices that no request ever reaches.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{list, text};
use crate::message::{INEFFECTIVE_MATCH, Message, UNREACHABLE_RULE};

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
    for kind in ["http", "tcp", "tls"] {
        let rules: Vec<&Value> = list(service, &format!("/spec/{kind}")).collect();
        let prefixes = duplicates(service, &rules, kind == "http", messages);
        covered(service, &prefixes, messages);
    }
}

/// `"name"` if it has one, else `#index`; only rules of HTTP have names.
fn shown(value: &Value, index: usize, has_names: bool) -> String {
    match text(value, "/name") {
        name if has_names && !name.is_empty() => format!("{name:?}"),
        _ => format!("#{index}"),
    }
}

fn duplicates<'a>(service: &Value, rules: &[&'a Value], is_http: bool, messages: &mut Vec<Message>) -> Vec<Prefix<'a>> {
    let mut report = |code, text: String| messages.push(Message::about(code, service, text));
    let unused = |rule: &str, why: &str| format!("VirtualService rule {rule} not used ({why}).");
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut takes_everything = false;
    let mut prefixes = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let name = shown(rule, index, is_http);
        let matches: Vec<&Value> = list(rule, "/match").collect();
        if matches.is_empty() {
            if takes_everything {
                report(
                    UNREACHABLE_RULE,
                    unused(&name, "only the last rule can have no matches"),
                );
            }
            takes_everything = true;
            continue;
        }
        let mut repeated = 0;
        for (at, single) in matches.iter().enumerate() {
            if takes_everything {
                report(UNREACHABLE_RULE, unused(&name, "route without matches defined before"));
                continue;
            }
            let content = without_name(single, is_http);
            if let Some(first) = known.get(&content) {
                let text = ineffective(
                    &name,
                    &shown(single, at, is_http),
                    &shown(rules[*first], *first, is_http),
                );
                report(INEFFECTIVE_MATCH, text);
                repeated += 1;
                continue;
            }
            known.insert(content, index);
            if is_http {
                prefixes.extend(prefix(single, name.clone(), at));
            }
        }
        if repeated == matches.len() {
            report(UNREACHABLE_RULE, unused(&name, "all matches used by prior rules"));
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

fn covered(service: &Value, prefixes: &[Prefix<'_>], messages: &mut Vec<Message>) {
    for (at, earlier) in prefixes.iter().enumerate() {
        for later in prefixes.iter().skip(at + 1).filter(|later| later.path != earlier.path) {
            if earlier.covers(later) {
                let single = format!("{} of prefix {}", later.name, later.path);
                let by = format!("{} of prefix {} on {}", earlier.name, earlier.path, earlier.rule);
                messages.push(Message::about(
                    INEFFECTIVE_MATCH,
                    service,
                    ineffective(&later.rule, &single, &by),
                ));
            }
        }
    }
}
