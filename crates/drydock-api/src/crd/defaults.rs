//! Fills defaults, after dropping nulls where null is no value.

use super::node::{MAX_DEPTH, additional, flag, properties};
use serde_json::Value;

/// Drops nulls of fields that are not nullable, then fills defaults of absent fields, top down.
pub fn default(schema: &Value, object: &mut Value) {
    walk(schema, object, 0);
}

fn walk(node: &Value, value: &mut Value, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, below) in properties(node).into_iter().flatten() {
                if map.get(name).is_some_and(Value::is_null) && !flag(below, "nullable") {
                    map.shift_remove(name);
                }
                if !map.contains_key(name)
                    && let Some(default) = below.get("default")
                {
                    map.insert(name.clone(), default.clone());
                }
                if let Some(child) = map.get_mut(name) {
                    walk(below, child, depth + 1);
                }
            }
            if let Some(extra) = additional(node) {
                if !flag(extra, "nullable") {
                    match extra.get("default") {
                        Some(default) => {
                            map.values_mut()
                                .filter(|v| v.is_null())
                                .for_each(|v| *v = default.clone());
                        }
                        None => map.retain(|_, v| !v.is_null()),
                    }
                }
                map.values_mut().for_each(|v| walk(extra, v, depth + 1));
            }
        }
        Value::Array(list) => {
            if let Some(items) = node.get("items") {
                if let Some(default) = items.get("default").filter(|_| !flag(items, "nullable")) {
                    list.iter_mut()
                        .filter(|v| v.is_null())
                        .for_each(|v| *v = default.clone());
                }
                list.iter_mut().for_each(|v| walk(items, v, depth + 1));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_and_null_fields_get_defaults() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "size": {"type": "integer", "default": 3},
            "s": {"type": "string"},
            "n": {"type": "string", "nullable": true, "default": "d"},
            "inner": {"type": "object", "default": {}, "properties": {"x": {"type": "string", "default": "y"}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "integer", "default": 80}}}},
        }}}});
        let mut object = json!({"spec": {"size": null, "s": null, "n": null, "list": [{}, {"p": 1}]}});
        default(&schema, &mut object);
        assert_eq!(
            object,
            json!({"spec": {"n": null, "size": 3, "inner": {"x": "y"}, "list": [{"p": 80}, {"p": 1}]}})
        );
        let mut empty = json!({"metadata": {}});
        default(&schema, &mut empty);
        assert_eq!(empty, json!({"metadata": {}}), "spec itself has no default");
    }
}
