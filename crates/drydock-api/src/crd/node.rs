//! Reading one node of an `openAPIV3Schema`.

use serde_json::{Map, Value};

/// Deepest schema or object that is walked.
pub const MAX_DEPTH: usize = 100;

/// A boolean keyword such as `nullable` or `x-kubernetes-int-or-string`.
#[must_use]
pub fn flag(node: &Value, key: &str) -> bool {
    node.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The declared properties.
#[must_use]
pub fn properties(node: &Value) -> Option<&Map<String, Value>> {
    node.get("properties").and_then(Value::as_object)
}

/// The schema of values of undeclared keys.
#[must_use]
pub fn additional(node: &Value) -> Option<&Value> {
    node.get("additionalProperties").filter(|a| a.is_object())
}

/// The `type`, empty when not given.
#[must_use]
pub fn kind(node: &Value) -> &str {
    node.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Whether undeclared fields are kept here.
#[must_use]
pub fn preserves(node: &Value) -> bool {
    flag(node, "x-kubernetes-preserve-unknown-fields")
}

/// Whether this is a whole Kubernetes object inside another.
#[must_use]
pub fn embedded(node: &Value) -> bool {
    flag(node, "x-kubernetes-embedded-resource")
}

/// The schema of the field `name`: declared or by `additionalProperties`.
#[must_use]
pub fn field<'a>(node: &'a Value, name: &str) -> Option<&'a Value> {
    properties(node).and_then(|p| p.get(name)).or_else(|| additional(node))
}

/// `path.name`, or `name` at the root.
#[must_use]
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
