//! Removes fields that the schema does not declare.

use super::node::{MAX_DEPTH, additional, embedded, join, preserves, properties};
use crate::schema::{Schema, builtin};
use serde_json::Value;

/// Prunes `object` and returns the paths of what was removed, sorted. The root's `apiVersion`, `kind` and `metadata`
/// are not the schema's business.
pub fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut removed = Vec::new();
    walk(schema, object, true, "", &mut removed, 0);
    removed.sort();
    removed
}

fn walk(node: &Value, value: &mut Value, resource: bool, path: &str, removed: &mut Vec<String>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) => {
            let open = preserves(node);
            let extra = additional(node);
            let declared = properties(node);
            let keys: Vec<String> = map.keys().cloned().collect();
            for key in keys {
                if resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                    if key == "metadata"
                        && depth > 0
                        && let Some(metadata) = map.get_mut(&key)
                    {
                        prune_metadata(metadata, &join(path, &key), removed);
                    }
                    continue;
                }
                let here = join(path, &key);
                match declared.and_then(|d| d.get(&key)).or(extra) {
                    Some(below) => {
                        if let Some(child) = map.get_mut(&key) {
                            walk(below, child, embedded(below), &here, removed, depth + 1);
                        }
                    }
                    None if open => {}
                    None => {
                        map.shift_remove(&key);
                        removed.push(here);
                    }
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = node.get("items") {
                for (at, item) in list.iter_mut().enumerate() {
                    walk(
                        items,
                        item,
                        embedded(items),
                        &format!("{path}[{at}]"),
                        removed,
                        depth + 1,
                    );
                }
            }
        }
        _ => {}
    }
}

/// Keeps only fields of ObjectMeta.
pub fn prune_metadata(metadata: &mut Value, path: &str, removed: &mut Vec<String>) {
    if let Some(known) = builtin("meta.v1.ObjectMeta") {
        prune_known(known, metadata, path, removed);
    }
}

fn prune_known(schema: &Schema, value: &mut Value, path: &str, removed: &mut Vec<String>) {
    let fields = &schema.resolve().fields;
    if fields.is_empty() {
        return;
    }
    if let Value::Object(map) = value {
        let unknown: Vec<String> = map.keys().filter(|k| !fields.contains_key(*k)).cloned().collect();
        for key in unknown {
            map.shift_remove(&key);
            removed.push(join(path, &key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_go_unless_preserved() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "integer"}}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"k": {"type": "object", "properties": {"a": {"type": "string"}}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
        }}}});
        let mut object = json!({"kind": "Gear", "metadata": {"name": "g"}, "top": 1, "spec": {
            "gone": 1, "list": [{}, {"p": 1, "q": 2}], "free": {"any": 1, "k": {"a": "b", "c": "d"}}, "map": {"m": {"x": "", "y": ""}}}});
        let removed = prune(&schema, &mut object);
        assert_eq!(
            removed,
            ["spec.free.k.c", "spec.gone", "spec.list[1].q", "spec.map.m.y", "top"]
        );
        assert_eq!(object["spec"]["free"], json!({"any": 1, "k": {"a": "b"}}));
    }
}
