//! One step of a field path, in the text form of `FieldsV1`: `f:name`, `k:{"key":value}`, `v:value`, `i:0`.

use super::shape::Node;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The step to a field of an object or key of a map.
#[must_use]
pub fn field(name: &str) -> String {
    format!("f:{name}")
}

/// The step to an element of a set, which is its value.
#[must_use]
pub fn value(value: &Value) -> String {
    format!("v:{value}")
}

/// The step to an element of a list by the values of its keys. Absent keys take the schema's default.
///
/// # Errors
/// When the element is no object or a key without default is absent.
pub fn keyed(keys: &[String], element: &Value, node: Node<'_>) -> Result<String, String> {
    let Some(object) = element.as_object() else {
        return Err("associative list with keys may not contain non-map elements".into());
    };
    let mut values: BTreeMap<&str, Value> = BTreeMap::new();
    for key in keys {
        let given = object.get(key).filter(|v| !v.is_null()).cloned();
        match given.or_else(|| node.field(key).default()) {
            Some(v) => {
                values.insert(key, v);
            }
            None => {
                return Err(format!(
                    "associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
                ));
            }
        }
    }
    let ordered: Map<String, Value> = values.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Ok(format!("k:{}", Value::Object(ordered)))
}

/// How messages print a step: `.name`, `[key="value"]`, `[="value"]`, `[0]`.
#[must_use]
pub fn printed(step: &str) -> String {
    match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("i", index)) => format!("[{index}]"),
        Some(("k", keys)) => match serde_json::from_str::<BTreeMap<String, Value>>(keys) {
            Ok(keys) => {
                format!(
                    "[{}]",
                    keys.iter()
                        .map(|(k, v)| format!("{k}={v}"))
                        .collect::<Vec<_>>()
                        .join(",")
                )
            }
            Err(_) => format!("[{keys}]"),
        },
        _ => step.to_owned(),
    }
}
