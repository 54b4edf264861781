//! Lists the fields of an object, and compares two objects field by field.

use super::{
    element,
    set::Set,
    shape::{Node, Shape, is_empty},
};
use serde_json::Value;

/// The fields an applied configuration claims.
#[must_use]
pub fn fields(node: Node<'_>, object: &Value) -> Set {
    let mut set = Set::default();
    claim(node, object, &mut Vec::new(), &mut set);
    set
}

fn claim(node: Node<'_>, value: &Value, path: &mut Vec<String>, set: &mut Set) {
    match (node.shape(value), value) {
        (Shape::Map, Value::Object(map)) => {
            for (name, below) in map {
                path.push(element::field(name));
                claim(node.field(name), below, path, set);
                if is_empty_map(below) || !node.declares(name) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (shape @ (Shape::Set | Shape::Keyed(_)), Value::Array(list)) => {
            for (at, item) in list.iter().enumerate() {
                path.push(step(&shape, item, node, at));
                claim(node.element(), item, path, set);
                set.insert(path);
                path.pop();
            }
        }
        (Shape::Map | Shape::Set | Shape::Keyed(_), Value::Null) => {}
        _ => set.insert(path),
    }
}

fn is_empty_map(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// The step to a list element; an element without its keys is addressed by position.
pub(super) fn step(shape: &Shape, item: &Value, node: Node<'_>, at: usize) -> String {
    match shape {
        Shape::Keyed(keys) => element::keyed(keys, item, node.element()).unwrap_or_else(|_| format!("i:{at}")),
        _ => element::value(item),
    }
}

/// What differs between two objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// In the new object only.
    pub added: Set,
    /// In the old object only.
    pub removed: Set,
    /// In both, with different values.
    pub modified: Set,
}

impl Comparison {
    /// Whether the objects are the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty()
    }

    /// Applies `filter` to each part.
    #[must_use]
    pub fn map(self, filter: impl Fn(Set) -> Set) -> Self {
        Comparison {
            added: filter(self.added),
            removed: filter(self.removed),
            modified: filter(self.modified),
        }
    }
}

/// Compares two objects of one kind.
#[must_use]
pub fn compare(node: Node<'_>, old: &Value, new: &Value) -> Comparison {
    let mut out = Comparison::default();
    diff(node, Some(old), Some(new), &mut Vec::new(), &mut out);
    out
}

fn diff(node: Node<'_>, old: Option<&Value>, new: Option<&Value>, path: &mut Vec<String>, out: &mut Comparison) {
    let Some(sample) = new.or(old) else { return };
    let shape = match (old, new) {
        (Some(a), Some(b)) if node.shape(a) != node.shape(b) => Shape::Leaf,
        _ => node.shape(sample),
    };
    if shape == Shape::Leaf || (is_empty(old) && is_empty(new)) {
        match (old, new) {
            (None, Some(_)) => out.added.insert(path),
            (Some(_), None) => out.removed.insert(path),
            (a, b) if a != b => out.modified.insert(path),
            _ => {}
        }
        return;
    }
    match shape {
        Shape::Map => {
            let (a, b) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let names = a.into_iter().flat_map(|m| m.keys());
            let more = b
                .into_iter()
                .flat_map(|m| m.keys())
                .filter(|k| !a.is_some_and(|a| a.contains_key(*k)));
            for name in names.chain(more) {
                path.push(element::field(name));
                diff(
                    node.field(name),
                    a.and_then(|m| m.get(name)),
                    b.and_then(|m| m.get(name)),
                    path,
                    out,
                );
                path.pop();
            }
        }
        _ => diff_list(&shape, node, old, new, path, out),
    }
    match (old, new) {
        (None, Some(_)) => out.added.insert(path),
        (Some(_), None) => out.removed.insert(path),
        _ => {}
    }
}

fn diff_list(
    shape: &Shape,
    node: Node<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<String>,
    out: &mut Comparison,
) {
    let steps = |list: Option<&Value>| -> Vec<String> {
        list.and_then(Value::as_array)
            .map(|l| {
                l.iter()
                    .enumerate()
                    .map(|(at, item)| step(shape, item, node, at))
                    .collect()
            })
            .unwrap_or_default()
    };
    let (a, b) = (steps(old), steps(new));
    let item = |list: Option<&'_ Value>, steps: &[String], wanted: &String| -> Option<Value> {
        let at = steps.iter().position(|s| s == wanted)?;
        list?.get(at).cloned()
    };
    for (at, one) in a.iter().enumerate() {
        if a[..at].contains(one) {
            continue;
        }
        path.push(one.clone());
        diff(
            node.element(),
            item(old, &a, one).as_ref(),
            item(new, &b, one).as_ref(),
            path,
            out,
        );
        path.pop();
    }
    for (at, one) in b.iter().enumerate() {
        if a.contains(one) || b[..at].contains(one) {
            continue;
        }
        path.push(one.clone());
        diff(node.element(), None, item(new, &b, one).as_ref(), path, out);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::builtin;
    use serde_json::json;

    #[test]
    fn an_update_owns_containers_too_but_an_apply_only_leaves() {
        let node = Node(builtin("core.v1.ConfigMap"));
        let object = json!({"data": {"k": "v"}});
        assert_eq!(fields(node, &object).to_fields(), json!({"f:data": {"f:k": {}}}));
        let created = compare(node, &json!({}), &object);
        assert_eq!(created.added.to_fields(), json!({"f:data": {".": {}, "f:k": {}}}));
    }

    #[test]
    fn lists_are_compared_by_key() {
        let node = Node(builtin("core.v1.PodSpec"));
        let pod =
            |image: &str| json!({"containers": [{"name": "a", "image": image, "ports": [{"containerPort": 80}]}]});
        let changed = compare(node, &pod("x"), &pod("y"));
        assert_eq!(changed.modified.printed(), [r#".containers[name="a"].image"#]);
        assert!(changed.added.is_empty() && changed.removed.is_empty());
        let claimed = fields(node, &pod("x")).printed();
        assert!(
            claimed
                .contains(&r#".containers[name="a"].ports[containerPort=80,protocol="TCP"].containerPort"#.to_owned()),
            "{claimed:?}"
        );
    }
}
