//! Input against the fields of its kind: types are checked, unknown fields dropped and named.

use serde_json::{Map, Value};

use super::{Schema, Type, quantity, quantity::Quantity, time};

/// Nesting looked at.
const MAX_DEPTH: usize = 200;

/// What decoding found besides the object.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// `unknown field "a.b"` and `duplicate field "a.b"` in the order of the input.
    pub strict: Vec<String>,
}

/// Checks `object` against `schema` in place. `duplicates` are paths of fields that were given twice;
/// `kind` is the name of the outermost struct.
///
/// # Errors
/// The message of the first type error, worded as the real server's.
pub fn decode(schema: &Schema, kind: &str, object: &mut Value, duplicates: &[String]) -> Result<Decoded, String> {
    let mut walk = Walk {
        found: Decoded::default(),
        duplicates,
        path: Vec::new(),
    };
    let context = Context {
        owner: kind,
        fields: "",
    };
    walk.value(schema, object, context, 0)?;
    Ok(walk.found)
}

/// Where a value sits in terms of Go structs.
#[derive(Clone, Copy)]
struct Context<'a> {
    owner: &'a str,
    fields: &'a str,
}

struct Walk<'a> {
    found: Decoded,
    duplicates: &'a [String],
    path: Vec<String>,
}

impl Walk<'_> {
    fn at(&self) -> String {
        let mut text = String::new();
        for part in &self.path {
            if !part.starts_with('[') && !text.is_empty() {
                text.push('.');
            }
            text.push_str(part);
        }
        text
    }

    fn value(&mut self, schema: &Schema, value: &mut Value, context: Context<'_>, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("exceeded max depth".into());
        }
        let node = schema.resolve();
        match (node.ty, &mut *value) {
            (_, Value::Null) | (Type::Any, _) | (Type::Boolean, Value::Bool(_)) | (Type::Number, Value::Number(_)) => {
                self.note_duplicates(value);
                Ok(())
            }
            (Type::String, Value::String(_)) => Ok(()),
            (Type::Int32 | Type::Int64, Value::Number(number)) => {
                let fits = match (number.as_i64(), node.ty) {
                    (Some(number), Type::Int32) => i32::try_from(number).is_ok(),
                    (whole, _) => whole.is_some(),
                };
                if fits {
                    Ok(())
                } else {
                    Err(mismatch(&format!("number {number}"), schema, context))
                }
            }
            (Type::Bytes, Value::String(text)) => decode_bytes(text),
            (Type::Time, Value::String(text)) => {
                *text = time::seconds(time::parse(text)?);
                Ok(())
            }
            (Type::MicroTime, Value::String(text)) => {
                *text = time::micros(time::parse_micro(text)?);
                Ok(())
            }
            (Type::IntOrString, Value::String(_) | Value::Number(_)) => Ok(()),
            (Type::Quantity, Value::String(_) | Value::Number(_)) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let parsed = Quantity::parse(text.trim()).ok_or_else(|| quantity::ERROR.to_owned())?;
                *value = parsed.canonical().into();
                Ok(())
            }
            (Type::Object, Value::Object(map)) => self.object(schema, map, context, depth),
            (Type::Map, Value::Object(map)) => self.map(node, map, context, depth),
            (Type::List, Value::Array(list)) => {
                let Some(items) = node.items.as_deref() else {
                    return Ok(());
                };
                for (index, item) in list.iter_mut().enumerate() {
                    self.path.push(format!("[{index}]"));
                    if item.is_null() && !matches!(items.resolve().ty, Type::Any) {
                        *item = zero(items);
                    }
                    self.value(items, item, context, depth + 1)?;
                    self.path.pop();
                }
                Ok(())
            }
            (_, other) => Err(mismatch(json_type(other), schema, context)),
        }
    }

    fn object(
        &mut self,
        schema: &Schema,
        map: &mut Map<String, Value>,
        context: Context<'_>,
        depth: usize,
    ) -> Result<(), String> {
        let node = schema.resolve();
        let owner = schema
            .reference
            .as_deref()
            .and_then(|name| name.rsplit('.').next())
            .unwrap_or(context.owner);
        let mut unknown = Vec::new();
        for (key, value) in map.iter_mut() {
            self.path.push(key.clone());
            match node.fields.get(key) {
                Some(field) => {
                    let fields = if context.fields.is_empty() {
                        key.clone()
                    } else {
                        format!("{}.{key}", context.fields)
                    };
                    self.value(field, value, Context { owner, fields: &fields }, depth + 1)?;
                }
                None if node.preserve_unknown => {}
                None => {
                    let at = self.at();
                    self.found.strict.push(format!("unknown field {at:?}"));
                    unknown.push(key.clone());
                }
            }
            self.duplicate();
            self.path.pop();
        }
        for key in unknown {
            map.shift_remove(&key);
        }
        map.retain(|_, value| !value.is_null());
        Ok(())
    }

    fn map(
        &mut self,
        node: &Schema,
        map: &mut Map<String, Value>,
        context: Context<'_>,
        depth: usize,
    ) -> Result<(), String> {
        let Some(items) = node.items.as_deref() else {
            return Ok(());
        };
        for (key, value) in map.iter_mut() {
            self.path.push(key.clone());
            if value.is_null() {
                *value = zero(items);
            }
            self.value(items, value, context, depth + 1)?;
            self.duplicate();
            self.path.pop();
        }
        Ok(())
    }

    /// Names the duplicates inside a value of free form.
    fn note_duplicates(&mut self, value: &Value) {
        if self.duplicates.is_empty() || !(value.is_object() || value.is_array()) {
            return;
        }
        let prefix = format!("{}.", self.at());
        let inside = self.duplicates.iter().filter(|path| path.starts_with(&prefix));
        self.found
            .strict
            .extend(inside.map(|path| format!("duplicate field {path:?}")));
    }

    fn duplicate(&mut self) {
        if !self.duplicates.is_empty() {
            let at = self.at();
            if self.duplicates.contains(&at) {
                self.found.strict.push(format!("duplicate field {at:?}"));
            }
        }
    }
}

/// The zero value of a node that is not a pointer.
pub(super) fn zero(schema: &Schema) -> Value {
    match schema.resolve().ty {
        Type::Any | Type::Time | Type::MicroTime | Type::List | Type::Map => Value::Null,
        Type::Boolean => false.into(),
        Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => 0.into(),
        Type::String | Type::Bytes => "".into(),
        Type::Quantity => "0".into(),
        Type::Object => Value::Object(Map::new()),
    }
}

fn decode_bytes(text: &str) -> Result<(), String> {
    use base64::{DecodeError, Engine, engine::general_purpose::STANDARD};
    let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(clean.as_bytes()).map(|_| ()).map_err(|error| {
        let at = match error {
            DecodeError::InvalidByte(at, _) => at,
            _ => clean.len(),
        };
        format!("illegal base64 data at input byte {at}")
    })
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mismatch(found: &str, schema: &Schema, context: Context<'_>) -> String {
    let wanted = go_type(schema);
    if context.fields.is_empty() {
        return format!("json: cannot unmarshal {found} into Go value of type {wanted}");
    }
    format!(
        "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
        context.owner, context.fields
    )
}

/// The type as Go prints it.
fn go_type(schema: &Schema) -> String {
    if !schema.go_type.is_empty() {
        return if schema.go_type.contains('.') {
            schema.go_type.clone()
        } else {
            format!("v1.{}", schema.go_type)
        };
    }
    if let Some(reference) = &schema.reference {
        let mut parts = reference.rsplit('.');
        let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        return format!("{version}.{name}");
    }
    let items = || schema.items.as_deref().map(go_type).unwrap_or_default();
    match schema.ty {
        Type::Any => "interface {}".into(),
        Type::Boolean => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Number => "float64".into(),
        Type::String | Type::Time | Type::MicroTime | Type::IntOrString | Type::Quantity => "string".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Object => "struct".into(),
        Type::Map => format!("map[string]{}", items()),
        Type::List => format!("[]{}", items()),
    }
}
