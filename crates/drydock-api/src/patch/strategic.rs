//! Strategic merge patch: lists merge by key, with the directives `$patch`, `$retainKeys`, `$setElementOrder/…`
//! and `$deleteFromPrimitiveList/…`.

use serde_json::{Map, Value};

use crate::schema::{Schema, Type};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";
const MAX_DEPTH: usize = 100;

/// Applies `patch` to `target`, an object of `schema`.
///
/// # Errors
/// The message of the real server (answered as 500).
pub fn strategic_merge(schema: &Schema, target: &mut Value, patch: &Value) -> Result<(), String> {
    let (Value::Object(target), Value::Object(patch)) = (target, patch) else {
        return Err("expected objects".into());
    };
    merge_maps(Some(schema), target, patch, 0)
}

fn merge_maps(
    schema: Option<&Schema>,
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    depth: usize,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("exceeded max depth".into());
    }
    match patch.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            target.clear();
            for (key, value) in patch.iter().filter(|(key, _)| *key != PATCH) {
                target.insert(key.clone(), cleaned(value));
            }
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        Some(other) => {
            return Err(format!(
                "Unknown patch type found: {other} in map: {}",
                printed_map(patch)
            ));
        }
    }
    if let Some(retain) = patch.get(RETAIN) {
        let keep: Vec<&str> = retain
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if let Some(missing) = patch
            .keys()
            .find(|key| !key.starts_with('$') && !patch[*key].is_null() && !keep.contains(&key.as_str()))
        {
            return Err(format!(
                "{RETAIN} directive does not list the patched field {missing:?}"
            ));
        }
        target.retain(|key, _| keep.contains(&key.as_str()));
    }
    for (key, value) in patch {
        if key == PATCH || key == RETAIN {
            continue;
        }
        if let Some(field) = key.strip_prefix(DELETE) {
            if let (Some(Value::Array(list)), Value::Array(gone)) = (target.get_mut(field), value) {
                list.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if let Some(field) = key.strip_prefix(ORDER) {
            // An order for a list that the patch itself does not touch.
            if !patch.contains_key(field)
                && let Some(Value::Array(list)) = target.get_mut(field)
            {
                let node = schema.and_then(|schema| schema.field(field));
                *list = ordered(node, std::mem::take(list), Vec::new(), Some(value), &[]);
            }
            continue;
        }
        if value.is_null() {
            target.shift_remove(key);
            continue;
        }
        let node = schema.and_then(|schema| schema.field(key));
        let order = patch.get(&format!("{ORDER}{key}"));
        match (target.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if !node.is_some_and(|node| node.patch_replace) => {
                merge_maps(node, old, new, depth + 1)?;
                if new.get(PATCH).is_some_and(|directive| directive == "delete") {
                    target.shift_remove(key);
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) if node.is_some_and(|node| node.patch_merge) => {
                merge_lists(node, old, new, order, depth + 1)?;
            }
            (None, Value::Array(new)) if node.is_some_and(|node| node.patch_merge) => {
                let mut list = Vec::new();
                merge_lists(node, &mut list, new, order, depth + 1)?;
                target.insert(key.clone(), Value::Array(list));
            }
            _ => {
                if value.get(PATCH).is_some_and(|directive| directive == "delete") {
                    target.shift_remove(key);
                } else {
                    target.insert(key.clone(), cleaned(value));
                }
            }
        }
    }
    Ok(())
}

/// A value without directives and nulls, as it is when there is nothing to merge it with.
fn cleaned(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map
                .iter()
                .filter(|(key, value)| !key.starts_with('$') && !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), cleaned(value))).collect())
        }
        Value::Array(list) => {
            let kept = list
                .iter()
                .filter(|item| item.get(PATCH).is_none_or(|directive| directive == "merge"));
            Value::Array(kept.map(cleaned).collect())
        }
        other => other.clone(),
    }
}

fn merge_lists(
    node: Option<&Schema>,
    list: &mut Vec<Value>,
    patch: &[Value],
    order: Option<&Value>,
    depth: usize,
) -> Result<(), String> {
    let original = list.clone();
    let scalar = node
        .and_then(Schema::element)
        .is_some_and(|element| element.resolve().ty != Type::Object);
    if scalar {
        let mut fresh: Vec<Value> = Vec::new();
        for item in patch {
            if !fresh.contains(item) {
                fresh.push(item.clone());
            }
        }
        let rest = list.iter().filter(|item| !fresh.contains(item)).cloned().collect();
        *list = ordered(node, rest, fresh, order, &original);
        return Ok(());
    }
    let key = node
        .and_then(|node| node.merge_key.as_deref())
        .ok_or("cannot merge lists without a merge key")?;
    let element = node.and_then(Schema::element);
    if patch
        .iter()
        .any(|item| item.get(PATCH).is_some_and(|directive| directive == "replace"))
    {
        *list = patch
            .iter()
            .filter(|item| item.get(PATCH).is_none())
            .map(cleaned)
            .collect();
        return Ok(());
    }
    let mut patched: Vec<Value> = Vec::new();
    for item in patch {
        let Value::Object(item) = item else {
            return Err("expected a list of maps in a strategic merge patch".into());
        };
        let Some(identity) = item.get(key).filter(|value| !value.is_null()) else {
            return Err(format!(
                "map: {} does not contain declared merge key: {key}",
                printed_map(item)
            ));
        };
        let same = |other: &Value| same_identity(other.get(key), identity);
        if item.get(PATCH).is_some_and(|directive| directive == "delete") {
            list.retain(|other| !same(other));
            continue;
        }
        if let Some(existing) = patched.iter_mut().find(|other| same(other)) {
            if let Value::Object(existing) = existing {
                merge_maps(element, existing, item, depth + 1)?;
            }
            continue;
        }
        match list.iter().position(same) {
            Some(at) => {
                let mut existing = list.remove(at);
                if let Value::Object(existing) = &mut existing {
                    merge_maps(element, existing, item, depth + 1)?;
                }
                patched.push(existing);
            }
            None => patched.push(cleaned(&Value::Object(item.clone()))),
        }
    }
    *list = ordered(node, std::mem::take(list), patched, order, &original);
    Ok(())
}

/// Numbers and texts count as the same key if they print alike (protobuf and JSON clients differ).
fn same_identity(a: Option<&Value>, b: &Value) -> bool {
    a == Some(b)
}

/// Puts the untouched items among the patched ones: the patch's order (or the wanted `order`) is kept, and an
/// untouched item goes before the first patched one that followed it in the original list.
fn ordered(
    node: Option<&Schema>,
    untouched: Vec<Value>,
    patched: Vec<Value>,
    order: Option<&Value>,
    original: &[Value],
) -> Vec<Value> {
    let key = node.and_then(|node| node.merge_key.as_deref());
    let identity = |value: &Value| match (key, value) {
        (Some(key), Value::Object(map)) => map.get(key).cloned().unwrap_or(Value::Null),
        _ => value.clone(),
    };
    let (mut untouched, mut patched) = (untouched, patched);
    let live: Vec<Value> = if original.is_empty() {
        untouched.iter().map(&identity).collect()
    } else {
        original.iter().map(&identity).collect()
    };
    if let Some(Value::Array(order)) = order {
        let wanted: Vec<Value> = order.iter().map(&identity).collect();
        let place = |value: &Value| wanted.iter().position(|one| *one == identity(value));
        // Items named in the order count as patched, even if the patch does not change them.
        let (named, rest): (Vec<Value>, Vec<Value>) = untouched.into_iter().partition(|item| place(item).is_some());
        untouched = rest;
        patched.extend(named);
        patched.sort_by_key(|item| place(item).unwrap_or(usize::MAX));
    }
    let position = |value: &Value| live.iter().position(|one| *one == identity(value));
    let mut result = Vec::with_capacity(untouched.len() + patched.len());
    let (mut left, mut right) = (untouched.into_iter().peekable(), patched.into_iter().peekable());
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return result,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => match (position(l), position(r)) {
                (Some(l), Some(r)) => l < r,
                _ => false,
            },
        };
        result.extend(if take_left { left.next() } else { right.next() });
    }
}

/// A map as Go prints it: `map[a:1 b:x]`.
fn printed_map(map: &Map<String, Value>) -> String {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort();
    let fields: Vec<String> = keys
        .into_iter()
        .map(|key| format!("{key}:{}", printed(&map[key])))
        .collect();
    format!("map[{}]", fields.join(" "))
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => printed_map(map),
        Value::Array(list) => format!("[{}]", list.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::builtin;
    use serde_json::json;

    fn check(target: Value, patch: Value, expected: Value) {
        let mut target = target;
        strategic_merge(builtin("core.v1.PodSpec").unwrap(), &mut target, &patch).unwrap();
        assert_eq!(target, expected);
    }

    #[test]
    fn lists_merge_by_key_and_keep_order() {
        check(
            json!({"containers": [{"name": "a", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]}),
            json!({"containers": [{"name": "a", "env": [
                {"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]}),
        );
        check(
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"name": "new"}]}),
            json!({"containers": [{"name": "new"}, {"name": "a"}, {"name": "b"}]}),
        );
        check(
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "i"}]}),
            json!({"containers": [{"name": "b"}, {"name": "a", "image": "i"}]}),
        );
    }

    #[test]
    fn directives_delete_replace_and_retain() {
        check(
            json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "x"}}]}),
            json!({"volumes": [{"name": "a", "$patch": "delete"}, {"name": "b", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}]}),
            json!({"volumes": [{"name": "b", "emptyDir": {}}]}),
        );
        check(
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}),
            json!({"containers": [{"name": "z"}]}),
        );
    }

    #[test]
    fn a_missing_merge_key_is_named() {
        let mut target = json!({"containers": [{"name": "a"}]});
        let patch = json!({"containers": [{"image": "x"}]});
        let error = strategic_merge(builtin("core.v1.PodSpec").unwrap(), &mut target, &patch).unwrap_err();
        assert_eq!(error, "map: map[image:x] does not contain declared merge key: name");
    }
}
