//! Merges an applied configuration into the live object.

use super::{
    shape::{Node, Shape},
    walk::step,
};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// `live` with everything that `applied` says. Lists keep the order of both as far as that is possible.
#[must_use]
pub fn merge(node: Node<'_>, live: &Value, applied: &Value) -> Value {
    match (node.shape(applied), live, applied) {
        (Shape::Map, Value::Object(old), Value::Object(new)) if node.shape(live) == Shape::Map => {
            let mut out: Map<String, Value> = old.clone();
            for (name, value) in new {
                let merged = match old.get(name) {
                    Some(before) => merge(node.field(name), before, value),
                    None => value.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        (Shape::Map | Shape::Set | Shape::Keyed(_), before, Value::Null) if !before.is_null() => before.clone(),
        (shape @ (Shape::Set | Shape::Keyed(_)), Value::Array(old), Value::Array(new)) => {
            Value::Array(merge_lists(&shape, node, old, new))
        }
        _ => applied.clone(),
    }
}

fn merge_lists(shape: &Shape, node: Node<'_>, old: &[Value], new: &[Value]) -> Vec<Value> {
    let steps = |list: &[Value]| -> Vec<String> {
        list.iter()
            .enumerate()
            .map(|(at, item)| step(shape, item, node, at))
            .collect()
    };
    let (left, right) = (steps(old), steps(new));
    let old_by: BTreeMap<&String, &Value> = left.iter().zip(old).rev().collect();
    let in_right: BTreeSet<&String> = right.iter().collect();
    // Elements of both lists in the order of the applied one; the next of them steers the walk.
    let mut shared: VecDeque<&String> = right.iter().filter(|s| old_by.contains_key(s)).collect();
    let mut merged: BTreeSet<&String> = BTreeSet::new();
    let mut out = Vec::with_capacity(old.len().max(new.len()));
    let both = |at: usize| match old_by.get(&right[at]) {
        Some(before) => merge(node.element(), before, &new[at]),
        None => new[at].clone(),
    };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            if left[l] == right[r] {
                out.push(both(r));
                merged.insert(&right[r]);
                l += 1;
                r += 1;
                shared.pop_front();
                continue;
            }
            if in_right.contains(&left[l]) && shared.front().is_some_and(|next| **next != left[l]) {
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            if !in_right.contains(&left[l]) {
                out.push(old[l].clone());
                l += 1;
                continue;
            }
            if merged.contains(&left[l]) {
                l += 1;
                continue;
            }
        }
        if r < right.len() {
            out.push(both(r));
            merged.insert(&right[r]);
            if shared.front().is_some_and(|next| **next == right[r]) {
                shared.pop_front();
            }
            r += 1;
        }
    }
    out
}

/// Drops nulls: a field set to null is a field not set.
pub fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::builtin;
    use serde_json::json;

    fn names(live: &[&str], applied: &[&str]) -> Vec<String> {
        let list = |names: &[&str]| json!({"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()});
        let merged = merge(Node(builtin("core.v1.PodSpec")), &list(live), &list(applied));
        merged["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn list_order_follows_both_sides() {
        assert_eq!(names(&["a", "b"], &["c"]), ["a", "b", "c"]);
        assert_eq!(names(&["a", "b", "c"], &["c", "a"]), ["b", "c", "a"]);
        assert_eq!(names(&["a", "b"], &["a", "x", "b"]), ["a", "x", "b"]);
        assert_eq!(names(&[], &["a"]), ["a"]);
    }
}
