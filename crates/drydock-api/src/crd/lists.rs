//! Lists that are sets or maps hold each element once.

use super::node::{MAX_DEPTH, additional, properties};
use crate::field::FieldError;
use serde_json::{Map, Value};

/// Duplicates in lists with `x-kubernetes-list-type` `set` or `map`.
pub fn duplicates(schema: &Value, object: &Value, out: &mut Vec<FieldError>) {
    walk(schema, object, "", out, 0);
}

fn walk(node: &Value, value: &Value, path: &str, out: &mut Vec<FieldError>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, below) in map {
                let declared = properties(node).and_then(|p| p.get(key)).or_else(|| additional(node));
                if let Some(schema) = declared {
                    walk(schema, below, &super::node::join(path, key), out, depth + 1);
                }
            }
        }
        Value::Array(list) => {
            match node["x-kubernetes-list-type"].as_str() {
                Some("set") => unique(list, path, out, Clone::clone),
                Some("map") => {
                    let keys: Vec<&str> = node["x-kubernetes-list-map-keys"]
                        .as_array()
                        .map(|k| k.iter().filter_map(Value::as_str).collect())
                        .unwrap_or_default();
                    unique(list, path, out, |item| {
                        Value::Object(
                            keys.iter()
                                .filter_map(|k| Some(((*k).to_owned(), item.get(k)?.clone())))
                                .collect::<Map<String, Value>>(),
                        )
                    });
                }
                _ => {}
            }
            if let Some(items) = node.get("items") {
                for (at, item) in list.iter().enumerate() {
                    walk(items, item, &format!("{path}[{at}]"), out, depth + 1);
                }
            }
        }
        _ => {}
    }
}

fn unique(list: &[Value], path: &str, out: &mut Vec<FieldError>, key: impl Fn(&Value) -> Value) {
    let mut seen: Vec<Value> = Vec::new();
    for (at, item) in list.iter().enumerate() {
        let key = key(item);
        if seen.contains(&key) {
            out.push(FieldError::duplicate(format!("{path}[{at}]"), &key));
        } else {
            seen.push(key);
        }
    }
}
