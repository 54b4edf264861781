//! What the schema of a kind's definition says: fields that must be there, bounds, patterns, words of an enum.
//!
//! As the decoder of the webhook reads, `null` is absent, an empty text is as good as none, and a number may stand for
//! a word or be written as text.

use std::collections::{BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};

use api::kind::Kind;
use regex::Regex;
use serde_json::Value;

use super::field::Problems;

/// Deepest nesting that is looked at; the schemas are less deep.
const MAX_DEPTH: usize = 32;

pub(super) fn check(kind: &Kind, object: &Value, problems: &mut Problems) {
    if let Some(schema) = api::crd::schema(kind) {
        // The status is written by control planes, and judged by nobody else.
        let spec = [("spec", &object["spec"])];
        require(
            schema,
            &|name| spec.iter().any(|(field, value)| *field == name && !value.is_null()),
            "",
            problems,
        );
        node(&schema["properties"]["spec"], &object["spec"], "spec", problems, 0);
    }
}

fn require(schema: &Value, has: &dyn Fn(&str) -> bool, path: &str, problems: &mut Problems) {
    for name in texts(&schema["required"]).filter(|name| !has(name)) {
        let field = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        problems.add(field, "Required value");
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn node(schema: &Value, value: &Value, path: &str, problems: &mut Problems, depth: usize) {
    if depth > MAX_DEPTH || schema.is_null() {
        return;
    }
    match value {
        Value::Object(map) => {
            let has = |name: &str| map.get(name).is_some_and(|value| !value.is_null());
            require(schema, &has, path, problems);
            check_alternatives(&schema["oneOf"], &has, path, problems);
            for part in schema["allOf"].as_array().into_iter().flatten() {
                check_alternatives(&part["oneOf"], &has, path, problems);
            }
            check_count(schema, map.len(), ("minProperties", "maxProperties"), path, problems);
            for (name, below) in map {
                let declared = match &schema["properties"][name] {
                    Value::Null => &schema["additionalProperties"],
                    declared => declared,
                };
                node(declared, below, &format!("{path}.{name}"), problems, depth + 1);
            }
        }
        Value::Array(list) => {
            check_count(schema, list.len(), ("minItems", "maxItems"), path, problems);
            for (index, item) in list.iter().enumerate() {
                node(&schema["items"], item, &format!("{path}[{index}]"), problems, depth + 1);
            }
            check_keys(schema, list, path, problems);
        }
        Value::String(text) if !text.is_empty() => check_text(schema, text, path, problems),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            let low = schema["minimum"].as_f64().filter(|min| number < *min);
            let high = schema["maximum"].as_f64().filter(|max| number > *max);
            if let Some(min) = low {
                problems.add(path, format!("Invalid value: {number}: must be at least {min}"));
            }
            if let Some(max) = high {
                problems.add(path, format!("Invalid value: {number}: must be at most {max}"));
            }
        }
        _ => {}
    }
}

/// The fields of a `oneof`: none or one of them.
fn check_alternatives(one_of: &Value, has: &dyn Fn(&str) -> bool, path: &str, problems: &mut Problems) {
    let alternatives = one_of.as_array().into_iter().flatten();
    let given: Vec<&str> = alternatives
        .flat_map(|branch| texts(&branch["required"]))
        .filter(|name| has(name))
        .collect();
    problems.require(
        given.len() < 2,
        path,
        format!("only one of {} can be set", given.join(", ")),
    );
}

fn check_count(schema: &Value, count: usize, (min, max): (&str, &str), path: &str, problems: &mut Problems) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    if let Some(min) = schema[min].as_u64().filter(|min| count < *min) {
        problems.add(path, format!("Invalid value: must have at least {min}, has {count}"));
    }
    if let Some(max) = schema[max].as_u64().filter(|max| count > *max) {
        problems.add(path, format!("Too many: must have at most {max}, has {count}"));
    }
}

/// A list that is a map has each key once.
fn check_keys(schema: &Value, list: &[Value], path: &str, problems: &mut Problems) {
    let keys: Vec<&str> = texts(&schema["x-kubernetes-list-map-keys"]).collect();
    if keys.is_empty() {
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let key: Vec<String> = keys.iter().map(|key| item[*key].to_string()).collect();
        problems.require(
            seen.insert(key.clone()),
            format!("{path}[{index}]"),
            format!("Duplicate value: {}", key.join(", ")),
        );
    }
}

fn check_text(schema: &Value, text: &str, path: &str, problems: &mut Problems) {
    let words: Vec<&str> = texts(&schema["enum"]).collect();
    if !words.is_empty() && !words.contains(&text) {
        problems.add(
            path,
            format!("Unsupported value: {text:?}: use one of {}", words.join(", ")),
        );
    }
    let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    if let Some(max) = schema["maxLength"].as_u64().filter(|max| length > *max) {
        problems.add(path, format!("Too long: may not be longer than {max}"));
    }
    if let Some(pattern) = schema["pattern"].as_str().filter(|pattern| !matches(pattern, text)) {
        problems.add(path, format!("Invalid value: {text:?}: should match '{pattern}'"));
    }
}

/// Whether a text matches a pattern of the schemas, which are few and compiled once.
fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Mutex<HashMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled
        .entry(pattern.to_owned())
        .or_insert_with(|| Regex::new(pattern).ok())
        .as_ref()
        .is_none_or(|regex| regex.is_match(text))
}
