//! Strategic merge of a pod fragment over a pod: Kubernetes' rules for the lists of a pod.

use serde_json::{Map, Value};

/// Lists of a pod that merge item by item, with the field that identifies an item. All other lists are replaced,
/// and lists of plain values under `finalizers` are united.
fn merge_key(field: &str) -> Option<&'static str> {
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "resourceClaims" => Some("name"),
        "ports" => Some("containerPort"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "hostAliases" => Some("ip"),
        "topologySpreadConstraints" => Some("topologyKey"),
        "ownerReferences" => Some("uid"),
        _ => None,
    }
}

/// Lays `patch` over `original`. `null` in the patch removes a field.
pub(crate) fn merge(original: &mut Value, patch: &Value) {
    match (original, patch) {
        (Value::Object(original), Value::Object(patch)) => merge_fields(original, patch),
        (original, patch) => *original = without_nulls(patch),
    }
}

fn merge_fields(original: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (field, value) in patch {
        match value {
            Value::Null => {
                original.shift_remove(field);
            }
            Value::Array(items) => match (merge_key(field), original.get_mut(field)) {
                (Some(key), Some(Value::Array(existing))) => *existing = merge_list(existing, items, key),
                _ => {
                    original.insert(field.clone(), without_nulls(value));
                }
            },
            Value::Object(_) => match original.get_mut(field) {
                Some(existing @ Value::Object(_)) => merge(existing, value),
                _ => {
                    original.insert(field.clone(), without_nulls(value));
                }
            },
            scalar => {
                original.insert(field.clone(), scalar.clone());
            }
        }
    }
}

/// Order as Kubernetes leaves it: patched items in the order of the patch; of the others, those keep their place
/// that stood before a patched item in the original, and new items come before what only the original has.
fn merge_list(original: &[Value], patch: &[Value], key: &str) -> Vec<Value> {
    let position = |item: &Value| original.iter().position(|other| same(other, item, key));
    let patched: Vec<Value> = patch
        .iter()
        .map(|item| match position(item) {
            Some(index) => {
                let mut merged = original[index].clone();
                merge(&mut merged, item);
                merged
            }
            None => without_nulls(item),
        })
        .collect();
    let mut only: Vec<&Value> = original
        .iter()
        .filter(|item| !patch.iter().any(|other| same(other, item, key)))
        .collect();
    only.reverse();
    let mut result = Vec::with_capacity(original.len() + patch.len());
    for item in patched {
        if let Some(at) = position(&item) {
            while only
                .last()
                .and_then(|next| position(next))
                .is_some_and(|index| index < at)
            {
                result.extend(only.pop().cloned());
            }
        }
        result.push(item);
    }
    result.extend(only.into_iter().rev().cloned());
    result
}

/// Two ports with one number are different items if their protocols differ.
fn same(left: &Value, right: &Value, key: &str) -> bool {
    let protocol = |port: &Value| port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_owned();
    left.get(key).is_some()
        && left.get(key) == right.get(key)
        && (key != "containerPort" || protocol(left) == protocol(right))
}

/// A value without fields that are `null`.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k.clone(), without_nulls(v)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(mut original: Value, patch: Value, expected: Value) {
        merge(&mut original, &patch);
        assert_eq!(original, expected);
    }

    #[test]
    fn containers_merge_by_name_and_new_ones_come_first() {
        check(
            json!({"containers": [{"name": "app", "image": "a"}, {"name": "istio-proxy", "image": "mine"}]}),
            json!({"containers": [{"name": "istio-proxy", "args": ["proxy"]}, {"name": "extra"}]}),
            json!({"containers": [{"name": "app", "image": "a"}, {"name": "istio-proxy", "image": "mine", "args": ["proxy"]}, {"name": "extra"}]}),
        );
        check(
            json!({"volumes": [{"name": "data"}]}),
            json!({"volumes": [{"name": "token"}]}),
            json!({"volumes": [{"name": "token"}, {"name": "data"}]}),
        );
    }

    #[test]
    fn plain_lists_are_replaced_and_null_removes() {
        check(
            json!({"args": ["a", "b"], "x": 1}),
            json!({"args": ["c"], "x": null}),
            json!({"args": ["c"]}),
        );
    }

    #[test]
    fn ports_differ_by_protocol() {
        check(
            json!({"ports": [{"containerPort": 53, "protocol": "UDP"}]}),
            json!({"ports": [{"containerPort": 53}]}),
            json!({"ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]}),
        );
    }
}
