//! Removes the fields of a set from an object.

use super::{
    set::Set,
    shape::{Node, Shape, is_empty},
    walk::step,
};
use serde_json::{Map, Value};

/// `object` without the fields in `gone`. Containers that become empty are left out.
#[must_use]
pub fn remove(node: Node<'_>, object: &Value, gone: &Set) -> Value {
    prune(node, object, gone).unwrap_or_else(|| Value::Object(Map::new()))
}

fn prune(node: Node<'_>, value: &Value, gone: &Set) -> Option<Value> {
    match (node.shape(value), value) {
        (_, value) if is_empty(Some(value)) => Some(value.clone()),
        (Shape::Map, Value::Object(map)) => {
            let mut out = Map::new();
            for (name, below) in map {
                let at = super::element::field(name);
                if gone.has(&at) {
                    continue;
                }
                match gone.below(&at) {
                    Some(deeper) => {
                        if let Some(rest) = prune(node.field(name), below, deeper) {
                            out.insert(name.clone(), rest);
                        }
                    }
                    None => {
                        out.insert(name.clone(), below.clone());
                    }
                }
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        (shape @ (Shape::Set | Shape::Keyed(_)), Value::Array(list)) => {
            let mut out = Vec::new();
            for (index, item) in list.iter().enumerate() {
                let at = step(&shape, item, node, index);
                if gone.has(&at) {
                    continue;
                }
                match gone.below(&at) {
                    Some(deeper) => out.extend(prune(node.element(), item, deeper)),
                    None => out.push(item.clone()),
                }
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
        _ => Some(value.clone()),
    }
}
