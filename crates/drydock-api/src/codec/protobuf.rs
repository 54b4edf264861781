//! `application/vnd.kubernetes.protobuf` bodies, read and written by the field table (`#N` are the field numbers;
//! `#N.M` is a field of a message that JSON inlines).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::schema::{self, Schema, Type};

pub use super::protobuf_encode::encode;

/// First bytes of every body.
pub const MAGIC: &[u8; 4] = b"k8s\0";
/// Nesting looked at.
const MAX_DEPTH: usize = 100;

/// The envelope around an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// The encoded object.
    pub raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Opens the envelope.
    ///
    /// # Errors
    /// A description of what is wrong with it.
    pub fn open(body: &'a [u8]) -> Result<Self, String> {
        let rest = body
            .strip_prefix(MAGIC)
            .ok_or("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")?;
        let mut envelope = Self::default();
        for field in Fields(rest) {
            match field? {
                (1, Wire::Bytes(meta)) => {
                    for field in Fields(meta) {
                        match field? {
                            (1, Wire::Bytes(text)) => envelope.api_version = utf8(text)?,
                            (2, Wire::Bytes(text)) => envelope.kind = utf8(text)?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                _ => {}
            }
        }
        Ok(envelope)
    }

    /// The object as JSON.
    ///
    /// # Errors
    /// A description of what is wrong with the bytes.
    pub fn object(&self, schema: &Schema) -> Result<Value, String> {
        let mut object = Map::new();
        object.insert("kind".into(), self.kind.clone().into());
        object.insert("apiVersion".into(), self.api_version.clone().into());
        message(schema, "", self.raw, &mut object, 0)?;
        Ok(Value::Object(object))
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "string is not UTF-8".to_owned())
}

/// A value on the wire.
#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed64(u64),
}

/// Fields of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Wire<'a>), String> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Wire::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| EOF.to_owned())?))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| EOF.to_owned())?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Number(0)
            }
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        Ok((tag >> 3, wire))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(EOF)?;
        self.0 = tail;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(EOF)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("proto: integer overflow".into())
    }
}

const EOF: &str = "unexpected EOF";

/// Reads a message into `object`; `prefix` selects the numbers of an inlined message.
fn message(
    schema: &Schema,
    prefix: &str,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("exceeded max depth".into());
    }
    let node = schema.resolve();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let number = format!("{prefix}{number}");
        if let Some((name, field)) = node.fields.iter().find(|(_, field)| field.number == number) {
            add(field, name, wire, object, depth)?;
        } else if let Wire::Bytes(inner) = wire {
            let inlined = format!("{number}.");
            if node.fields.values().any(|field| field.number.starts_with(&inlined)) {
                message(schema, &inlined, inner, object, depth + 1)?;
            }
        }
    }
    Ok(())
}

fn add(
    field: &Schema,
    name: &str,
    wire: Wire<'_>,
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), String> {
    match (field.ty, wire) {
        (Type::List, wire) => {
            let Some(items) = field.items.as_deref() else {
                return Ok(());
            };
            let item = single(items, wire, depth + 1)?;
            if let Value::Array(list) = object.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                list.push(item);
            }
        }
        (Type::Map, Wire::Bytes(entry)) => {
            let Some(items) = field.items.as_deref() else {
                return Ok(());
            };
            let mut key = String::new();
            let mut value = None;
            for field in Fields(entry) {
                match field? {
                    (1, Wire::Bytes(text)) => key = utf8(text)?,
                    (2, wire) => value = Some(single(items, wire, depth + 1)?),
                    _ => {}
                }
            }
            let value = match value {
                Some(value) => value,
                None => single(items, Wire::Bytes(&[]), depth + 1)?,
            };
            if let Value::Object(map) = object.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                map.insert(key, value);
            }
        }
        (_, wire) => {
            let value = single(field, wire, depth + 1)?;
            object.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

fn single(schema: &Schema, wire: Wire<'_>, depth: usize) -> Result<Value, String> {
    let node = schema.resolve();
    Ok(match (node.ty, wire) {
        (Type::Boolean, Wire::Number(number)) => (number != 0).into(),
        (Type::Int32 | Type::Int64, Wire::Number(number)) => (number as i64).into(),
        (Type::Number, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Type::String, Wire::Bytes(bytes)) => utf8(bytes)?.into(),
        (Type::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Type::Quantity, Wire::Bytes(bytes)) => text_field(bytes, 1)?.into(),
        (Type::Time | Type::MicroTime, Wire::Bytes(bytes)) => timestamp(node.ty, bytes)?,
        (Type::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Type::Any, Wire::Bytes(bytes)) => raw_json(bytes)?,
        (Type::Object, Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            message(schema, "", bytes, &mut object, depth)?;
            Value::Object(object)
        }
        // A named list such as `ExtraValue`: a message with the items as its first field.
        (Type::List, Wire::Bytes(bytes)) => {
            let Some(items) = node.items.as_deref() else {
                return Ok(Value::Null);
            };
            let mut list = Vec::new();
            for field in Fields(bytes) {
                if let (1, wire) = field? {
                    list.push(single(items, wire, depth + 1)?);
                }
            }
            Value::Array(list)
        }
        (_, Wire::Number(_) | Wire::Fixed64(_) | Wire::Bytes(_)) => return Err("proto: wrong wireType".into()),
    })
}

fn text_field(bytes: &[u8], number: u64) -> Result<String, String> {
    for field in Fields(bytes) {
        if let (found, Wire::Bytes(text)) = field?
            && found == number
        {
            return utf8(text);
        }
    }
    Ok(String::new())
}

fn timestamp(ty: Type, bytes: &[u8]) -> Result<Value, String> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(number)) => seconds = number as i64,
            (2, Wire::Number(number)) => nanos = number as i64,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).map_err(|_| "time out of range")?;
    let timestamp = jiff::Timestamp::new(seconds, nanos).map_err(|_| "time out of range")?;
    Ok(match ty {
        Type::MicroTime => schema::time::micros(timestamp),
        _ => schema::time::seconds(timestamp),
    }
    .into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut number) = (false, 0i64);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value as i64,
            _ => {}
        }
    }
    Ok(if is_text {
        text_field(bytes, 3)?.into()
    } else {
        number.into()
    })
}

/// `RawExtension`, `JSON`, `FieldsV1`: bytes of JSON in the first field.
fn raw_json(bytes: &[u8]) -> Result<Value, String> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(raw)) = field? {
            return serde_json::from_slice(raw).map_err(|error| error.to_string());
        }
    }
    Ok(Value::Null)
}
