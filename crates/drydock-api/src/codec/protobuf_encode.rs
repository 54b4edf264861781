//! Objects written as protobuf.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::protobuf::MAGIC;
use crate::schema::{Schema, Type, time};

/// The whole body: magic, envelope, object.
pub fn encode(schema: &Schema, api_version: &str, kind: &str, object: &Value) -> Vec<u8> {
    let mut meta = Vec::new();
    bytes(&mut meta, 1, api_version.as_bytes());
    bytes(&mut meta, 2, kind.as_bytes());
    let mut raw = Vec::new();
    if let Some(map) = object.as_object() {
        message(schema, map, &mut raw);
    }
    let mut out = MAGIC.to_vec();
    bytes(&mut out, 1, &meta);
    bytes(&mut out, 2, &raw);
    bytes(&mut out, 3, b"");
    bytes(&mut out, 4, b"");
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, number: u64, value: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn number(out: &mut Vec<u8>, field: u64, value: i64) {
    varint(out, field << 3);
    varint(out, value as u64);
}

fn message(schema: &Schema, object: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut fields: Vec<(u64, &str, &Schema, &Value)> = Vec::new();
    for (name, value) in object {
        let Some(field) = schema.resolve().fields.get(name) else {
            continue;
        };
        let (first, rest) = field.number.split_once('.').unwrap_or((&field.number, ""));
        if let Ok(first) = first.parse() {
            fields.push((first, rest, field, value));
        }
    }
    fields.sort_by_key(|(first, rest, ..)| (*first, rest.parse::<u64>().unwrap_or(0)));
    let mut at = 0;
    while let Some((first, rest, field, value)) = fields.get(at).copied() {
        if rest.is_empty() {
            add(out, first, field, value);
            at += 1;
            continue;
        }
        let mut inner = Vec::new();
        while let Some((same, rest, field, value)) = fields.get(at).copied() {
            if same != first {
                break;
            }
            if let Ok(rest) = rest.parse() {
                add(&mut inner, rest, field, value);
            }
            at += 1;
        }
        bytes(out, first, &inner);
    }
}

fn add(out: &mut Vec<u8>, field: u64, schema: &Schema, value: &Value) {
    let node = schema.resolve();
    match (node.ty, value) {
        (_, Value::Null) => {}
        (Type::Boolean, Value::Bool(flag)) => number(out, field, i64::from(*flag)),
        (Type::Int32 | Type::Int64, Value::Number(value)) => number(out, field, value.as_i64().unwrap_or(0)),
        (Type::Number, Value::Number(value)) => {
            varint(out, field << 3 | 1);
            out.extend_from_slice(&value.as_f64().unwrap_or(0.0).to_le_bytes());
        }
        (Type::String, Value::String(text)) => bytes(out, field, text.as_bytes()),
        (Type::Bytes, Value::String(text)) => bytes(out, field, &STANDARD.decode(text).unwrap_or_default()),
        (Type::List, Value::Array(list)) => {
            if let Some(items) = node.items.as_deref() {
                list.iter().for_each(|value| add(out, field, items, value));
            }
        }
        (Type::Map, Value::Object(map)) => {
            let Some(items) = node.items.as_deref() else { return };
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for key in keys {
                let mut entry = Vec::new();
                bytes(&mut entry, 1, key.as_bytes());
                if items.ty == Type::List {
                    // A list as a map's value is a message with the items as its first field.
                    let mut inner = Vec::new();
                    add(&mut inner, 1, items, &map[key]);
                    bytes(&mut entry, 2, &inner);
                } else {
                    add(&mut entry, 2, items, &map[key]);
                }
                bytes(out, field, &entry);
            }
        }
        (_, value) => {
            let mut inner = Vec::new();
            special(node, value, &mut inner);
            bytes(out, field, &inner);
        }
    }
}

/// Types that are messages on the wire.
fn special(node: &Schema, value: &Value, out: &mut Vec<u8>) {
    match (node.ty, value) {
        (Type::Object, Value::Object(map)) => message(node, map, out),
        (Type::Quantity, Value::String(text)) => bytes(out, 1, text.as_bytes()),
        (Type::Time | Type::MicroTime, Value::String(text)) => {
            if let Ok(timestamp) = time::parse(text) {
                number(out, 1, timestamp.as_second());
                number(out, 2, i64::from(timestamp.subsec_nanosecond()));
            }
        }
        (Type::IntOrString, Value::String(text)) => {
            number(out, 1, 1);
            number(out, 2, 0);
            bytes(out, 3, text.as_bytes());
        }
        (Type::IntOrString, Value::Number(value)) => {
            number(out, 1, 0);
            number(out, 2, value.as_i64().unwrap_or(0));
            bytes(out, 3, b"");
        }
        (Type::Any, value) => bytes(out, 1, value.to_string().as_bytes()),
        _ => {}
    }
}
