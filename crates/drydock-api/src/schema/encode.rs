//! Objects in their encoded form: zero values left out or put in as the real server does.

use serde_json::{Map, Value};

use super::{Presence, Schema, Type, decode::zero};

/// Brings a built-in object into its encoded form.
pub fn normalize(schema: &Schema, object: &mut Value) {
    let node = schema.resolve();
    match (node.ty, object) {
        (Type::Object, Value::Object(map)) => {
            let known: Vec<(String, Option<Value>)> = map
                .iter_mut()
                .filter_map(|(key, value)| {
                    let field = node.fields.get(key)?;
                    normalize(field, value);
                    let kept = keep(field, std::mem::take(value));
                    Some((key.clone(), kept))
                })
                .collect();
            for (key, value) in known {
                match value {
                    Some(value) => {
                        map.insert(key, value);
                    }
                    None => {
                        map.shift_remove(&key);
                    }
                }
            }
            add_missing(node, map);
        }
        (Type::Map, Value::Object(map)) => {
            if let Some(items) = node.items.as_deref() {
                map.values_mut().for_each(|value| normalize(items, value));
            }
        }
        (Type::List, Value::Array(list)) => {
            if let Some(items) = node.items.as_deref() {
                list.iter_mut().for_each(|value| normalize(items, value));
            }
        }
        _ => {}
    }
}

/// Whether a value that is there stays.
fn keep(field: &Schema, value: Value) -> Option<Value> {
    match field.presence {
        Presence::Pointer => (!value.is_null()).then_some(value),
        Presence::Always if value.is_null() => Some(zero(field)),
        // Stored lists and maps know no difference between empty and absent.
        Presence::Always if matches!(field.ty, Type::List | Type::Map) && is_zero(&value) => Some(Value::Null),
        Presence::Always | Presence::AlwaysPointer => Some(value),
        Presence::OmitZero => (!is_zero(&value)).then_some(value),
        Presence::OmitEmpty => {
            let is_struct = field.resolve().ty == Type::Object;
            if is_struct && value.is_null() {
                Some(Value::Object(Map::new()))
            } else if is_struct || field.ty == Type::Any || field.ty == Type::Quantity || field.ty == Type::IntOrString
            {
                (!value.is_null()).then_some(value)
            } else {
                (!is_zero(&value)).then_some(value)
            }
        }
    }
}

fn add_missing(node: &Schema, map: &mut Map<String, Value>) {
    for (name, field) in &node.fields {
        if map.contains_key(name) {
            continue;
        }
        let value = match field.presence {
            Presence::Always | Presence::AlwaysPointer if field.presence == Presence::AlwaysPointer => Value::Null,
            Presence::Always => zero(field),
            Presence::OmitEmpty if field.resolve().ty == Type::Object => Value::Object(Map::new()),
            Presence::OmitEmpty if matches!(field.ty, Type::Time | Type::MicroTime) => Value::Null,
            _ => continue,
        };
        let mut value = value;
        normalize(field, &mut value);
        map.insert(name.clone(), value);
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
