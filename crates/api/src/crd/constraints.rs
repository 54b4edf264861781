//! What a definition demands beyond the shape that the types give: `constraints.yaml`, laid over a derived schema.
//!
//! The types read leniently, because a control plane must live with what is stored; the API server accepts strictly.
//! The notation is told at the head of the file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

/// Deepest nesting of parts, against parts that contain themselves.
const MAX_DEPTH: usize = 64;

/// The file.
#[derive(Debug, Deserialize)]
pub struct Constraints {
    parts: BTreeMap<String, Value>,
    kinds: BTreeMap<String, Value>,
}

/// Why the file cannot be read or laid over the types.
#[derive(Debug, thiserror::Error)]
pub enum ConstraintError {
    /// It is no YAML of that shape.
    #[error("constraints.yaml: {0}")]
    Unreadable(#[from] serde_saphyr::Error),
    /// A node makes no sense.
    #[error("constraints.yaml: {path}: {problem}")]
    Node {
        /// Where.
        path: String,
        /// What.
        problem: String,
    },
}

impl Constraints {
    /// Reads the file.
    ///
    /// # Errors
    /// If it is not as its head says.
    pub fn read() -> Result<Self, ConstraintError> {
        Ok(serde_saphyr::from_str(include_str!("constraints.yaml"))?)
    }

    /// Lays the constraints of a kind over the schema of its objects.
    ///
    /// # Errors
    /// If a node names an absent part or an unknown form.
    pub fn apply(&self, kind: &str, schema: &mut Value) -> Result<(), ConstraintError> {
        if let Some(node) = self.kinds.get(kind) {
            self.node(node, schema, kind, 0)?;
        }
        let status = &mut schema["properties"]["status"];
        self.node(&json!("=Status"), status, &format!("{kind}.status"), 0)
    }

    fn node(&self, node: &Value, schema: &mut Value, path: &str, depth: usize) -> Result<(), ConstraintError> {
        let wrong = |problem: String| ConstraintError::Node {
            path: path.to_owned(),
            problem,
        };
        if depth > MAX_DEPTH {
            return Err(wrong("too deep; does a part contain itself?".to_owned()));
        }
        if !schema.is_object() {
            *schema = json!({});
        }
        match node {
            Value::String(word) => {
                if let Some(name) = word.strip_prefix('=') {
                    let part = self
                        .parts
                        .get(name)
                        .ok_or_else(|| wrong(format!("there is no part {name}")))?;
                    return self.node(part, schema, path, depth + 1);
                }
                let whole = short(word).ok_or_else(|| wrong(format!("{word:?} is no type")))?;
                merge(schema, whole);
            }
            Value::Array(words) => {
                schema["enum"] = json!(words);
                type_unless_known(schema, "string");
            }
            Value::Object(map) => {
                if let Some(name) = map.get("$use").and_then(Value::as_str) {
                    self.node(&json!(format!("={name}")), schema, path, depth + 1)?;
                }
                for (key, value) in map.iter().filter(|(key, _)| *key != "$use") {
                    match key.as_str() {
                        "[]" => {
                            type_unless_known(schema, "array");
                            self.node(value, &mut schema["items"], &format!("{path}[]"), depth + 1)?;
                        }
                        "{}" => {
                            type_unless_known(schema, "object");
                            let below = &mut schema["additionalProperties"];
                            self.node(value, below, &format!("{path}{{}}"), depth + 1)?;
                        }
                        key => match key.strip_prefix('$') {
                            Some(word) => apply_word(schema, word, value).map_err(wrong)?,
                            None => {
                                if !map.contains_key("$keep") {
                                    forget_unknown(schema);
                                }
                                type_unless_known(schema, "object");
                                let below = &mut schema["properties"][key];
                                self.node(value, below, &format!("{path}.{key}"), depth + 1)?;
                            }
                        },
                    }
                }
            }
            other => return Err(wrong(format!("{other} is no node"))),
        }
        Ok(())
    }
}

/// A field that the types keep as it is written. `None`: no such type.
fn short(word: &str) -> Option<Value> {
    let (name, nullable) = word.strip_suffix('?').map_or((word, false), |name| (name, true));
    let mut schema = match name {
        "string" | "boolean" => json!({ "type": name }),
        "int32" => json!({ "type": "integer", "format": "int32" }),
        "uint32" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        "duration" => serde_json::to_value(schemars::schema_for!(crate::lenient::Duration)).ok()?,
        _ => return None,
    };
    schema
        .as_object_mut()?
        .retain(|key, _| key != "$schema" && key != "title");
    if nullable {
        schema["nullable"] = true.into();
    }
    Some(schema)
}

fn merge(schema: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (schema, from) {
        into.extend(from);
    }
}

fn type_unless_known(schema: &mut Value, kind: &str) {
    if schema.get("type").is_none() && schema.get("x-kubernetes-int-or-string").is_none() {
        schema["type"] = kind.into();
    }
}

/// Fields that are named take the place of `whatever is written`.
fn forget_unknown(schema: &mut Value) {
    if schema.get("properties").is_none()
        && let Value::Object(map) = schema
    {
        map.remove("x-kubernetes-preserve-unknown-fields");
    }
}

/// One of the words that begin with `$`.
fn apply_word(schema: &mut Value, word: &str, value: &Value) -> Result<(), String> {
    match word {
        "oneOf" => {
            let lists = value.as_array().ok_or("$oneOf is no list")?;
            if lists.iter().all(Value::is_array) {
                let all: Vec<Value> = lists.iter().map(|list| json!({ "oneOf": at_most_one(list) })).collect();
                schema["allOf"] = json!(all);
            } else {
                schema["oneOf"] = at_most_one(value);
            }
        }
        "atMostOne" => {
            for (message, fields) in value.as_object().ok_or("$atMostOne is no map")? {
                let terms: Vec<String> = texts(fields)
                    .map(|field| format!("(has(self.{field}) ? 1 : 0)"))
                    .collect();
                add_rule(schema, message, &format!("{} <= 1", terms.join(" + ")));
            }
        }
        "rules" => {
            let rules = value.as_object().ok_or("$rules is no map")?;
            if let (true, Value::Object(map)) = (rules.is_empty(), &mut *schema) {
                map.remove("x-kubernetes-validations");
            }
            for (message, rule) in rules {
                add_rule(schema, message, rule.as_str().ok_or("a rule is no text")?);
            }
        }
        "keys" => {
            schema["x-kubernetes-list-type"] = "map".into();
            schema["x-kubernetes-list-map-keys"] = value.clone();
        }
        "keep" => {
            schema["x-kubernetes-preserve-unknown-fields"] = value.clone();
            type_unless_known(schema, "object");
        }
        "pattern" | "minLength" | "maxLength" => {
            schema[word] = value.clone();
            type_unless_known(schema, "string");
        }
        "anyOf"
        | "enum"
        | "format"
        | "maxItems"
        | "maxProperties"
        | "maximum"
        | "minItems"
        | "minProperties"
        | "minimum"
        | "nullable"
        | "required"
        | "type"
        | "x-kubernetes-int-or-string" => {
            schema[word] = value.clone();
        }
        _ => return Err(format!("${word} is unknown")),
    }
    Ok(())
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn add_rule(schema: &mut Value, message: &str, rule: &str) {
    let rule = json!({ "message": message, "rule": rule });
    match &mut schema["x-kubernetes-validations"] {
        Value::Array(rules) => rules.push(rule),
        other => *other = json!([rule]),
    }
}

/// None or one of the fields: what a `oneof` of a protocol message is in a schema.
fn at_most_one(fields: &Value) -> Value {
    let required: Vec<Value> = texts(fields).map(|field| json!({ "required": [field] })).collect();
    let none = json!({ "not": { "anyOf": required } });
    Value::Array(std::iter::once(none).chain(required).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lay(constraints: Value, mut schema: Value) -> Value {
        let constraints: Constraints = serde_json::from_value(constraints).unwrap();
        constraints.apply("K", &mut schema).unwrap();
        schema["properties"]["spec"].take()
    }

    #[test]
    fn constraints_lie_over_what_the_types_say() {
        let constraints = json!({
            "parts": { "Status": { "$keep": true }, "Port": { "$type": "integer", "$rules": { "no port": "self > 0" } } },
            "kinds": { "K": { "spec": {
                "$atMostOne": { "a or b": ["a", "b"] }, "mode": ["ON", "OFF"], "ports": { "[]": "=Port" }, "on": "boolean?",
            } } },
        });
        let schema =
            json!({ "properties": { "spec": { "type": "object", "properties": { "a": { "type": "string" } } } } });
        let expected = json!({
            "type": "object",
            "properties": {
                "a": { "type": "string" },
                "mode": { "enum": ["ON", "OFF"], "type": "string" },
                "ports": { "type": "array", "items": {
                    "type": "integer",
                    "x-kubernetes-validations": [{ "message": "no port", "rule": "self > 0" }],
                } },
                "on": { "type": "boolean", "nullable": true },
            },
            "x-kubernetes-validations": [{
                "message": "a or b",
                "rule": "(has(self.a) ? 1 : 0) + (has(self.b) ? 1 : 0) <= 1",
            }],
        });
        assert_eq!(lay(constraints, schema), expected);
    }

    #[test]
    fn of_the_fields_of_a_oneof_at_most_one_is_there() {
        let constraints =
            json!({ "parts": { "Status": { "$keep": true } }, "kinds": { "K": { "spec": { "$oneOf": ["a"] } } } });
        let expected = json!({ "oneOf": [{ "not": { "anyOf": [{ "required": ["a"] }] } }, { "required": ["a"] }] });
        assert_eq!(lay(constraints, json!({})), expected);
    }

    #[test]
    fn a_mistake_in_the_file_names_its_place() {
        let constraints = json!({ "parts": {}, "kinds": { "K": { "spec": { "a": "=Nothing" } } } });
        let constraints: Constraints = serde_json::from_value(constraints).unwrap();
        let error = constraints.apply("K", &mut json!({})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "constraints.yaml: K.spec.a: there is no part Nothing"
        );
    }

    #[test]
    fn every_kind_has_constraints() {
        let constraints = Constraints::read().unwrap();
        let constrained: Vec<&str> = constraints.kinds.keys().map(String::as_str).collect();
        let mut kinds: Vec<&str> = crate::kind::KINDS.iter().map(|kind| kind.kind).collect();
        kinds.sort_unstable();
        assert_eq!(constrained, kinds);
    }
}
