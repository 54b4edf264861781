//! `selectableFields`: fields of a custom resource that field selectors may name.

use super::{
    jsonpath::JsonPath,
    node::{kind, properties},
};
use crate::field::FieldError;
use serde_json::Value;

/// The labels (`spec.color`) with their paths.
#[must_use]
pub fn labels(fields: &Value) -> Vec<(String, JsonPath)> {
    fields
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|f| f["jsonPath"].as_str())
        .filter_map(|path| Some((path.trim_start_matches('.').to_owned(), JsonPath::parse(path).ok()?)))
        .collect()
}

/// The value a selector compares with; empty when absent.
#[must_use]
pub fn value(path: &JsonPath, object: &Value) -> String {
    match path.find(object).first() {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// Problems of `selectableFields` against the schema.
pub fn problems(field: &str, fields: &Value, schema: &Value, out: &mut Vec<FieldError>) {
    for (at, selectable) in fields.as_array().into_iter().flatten().enumerate() {
        let here = format!("{field}[{at}].jsonPath");
        let path = &selectable["jsonPath"];
        let Some(text) = path.as_str().filter(|t| !t.is_empty()) else {
            out.push(FieldError::required(here, ""));
            continue;
        };
        let mut node = Some(schema);
        for name in text.trim_start_matches('.').split('.') {
            node = node.and_then(properties).and_then(|p| p.get(name));
        }
        match node.map(kind) {
            None => out.push(FieldError::invalid(here, path, "is an invalid path: does not refer to a valid field")),
            Some("string" | "boolean" | "integer") => {}
            Some(_) => out.push(FieldError::invalid(
                here,
                path,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            )),
        }
    }
}
