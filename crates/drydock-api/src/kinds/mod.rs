//! What the built-in kinds demand: defaults, validation, what the server sets.
//!
//! [`Builtin`] is the strategy of every built-in kind; the other modules hold the rules of a family of kinds each.

mod builtin;
mod config;
mod containers;
mod defaults;
pub mod names;
mod objects;
mod pod_defaults;
mod pod_diff;
mod pod_scheduling;
mod pod_validation;
mod pod_warnings;
mod pods;
mod policies;
mod ranges;
mod services;
mod small;
mod volumes;
mod workloads;

pub use builtin::{Builtin, register};
pub use objects::{api_service, bootstrap, ensure};
pub use ranges::Ranges;

use serde_json::Value;

/// A label selector object as text: `a=b,tier in (x,y)`.
pub fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.sort();
    parts.join(",")
}

/// Sets `map[field]` unless it is there and not null.
pub(crate) fn default(map: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = map.as_object_mut()
        && map.get(field).is_none_or(Value::is_null)
    {
        map.insert(field.to_owned(), value.into());
    }
}

/// As [`default`], for texts and numbers whose zero means "not given".
pub(crate) fn default_zero(map: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = map.as_object_mut() {
        let unset = match map.get(field) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Number(number)) => number.as_f64() == Some(0.0),
            _ => false,
        };
        if unset {
            map.insert(field.to_owned(), value.into());
        }
    }
}

/// A text at a JSON pointer, empty if absent.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list at a JSON pointer, empty if absent.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// A list at a JSON pointer, to be changed.
pub(crate) fn list_mut<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    value
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}
