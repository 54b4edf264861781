//! How a node of an object merges, by its schema and, where there is none, by its value.

use crate::schema::{ListType, Schema, Type};
use serde_json::Value;

/// A position in the schema; `None` where nothing is declared and the value itself decides.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a>(pub Option<&'a Schema>);

/// How the value at a node is owned and merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// As one: scalars, atomic lists and maps.
    Leaf,
    /// By field.
    Map,
    /// By element value.
    Set,
    /// By element keys.
    Keyed(Vec<String>),
}

impl<'a> Node<'a> {
    /// The shape of `value` here.
    pub fn shape(self, value: &Value) -> Shape {
        let Some(schema) = self.0 else {
            return if value.is_object() { Shape::Map } else { Shape::Leaf };
        };
        let target = schema.resolve();
        match target.ty {
            Type::Any if value.is_object() => Shape::Map,
            Type::Object | Type::Map if !(schema.atomic || target.atomic) => Shape::Map,
            Type::List => match &schema.list_type {
                ListType::Atomic => Shape::Leaf,
                ListType::Set => Shape::Set,
                ListType::Map(keys) => Shape::Keyed(keys.clone()),
            },
            _ => Shape::Leaf,
        }
    }

    /// The node of a field or map value.
    pub fn field(self, name: &str) -> Node<'a> {
        Node(self.0.and_then(|s| s.field(name)))
    }

    /// The node of a list's elements.
    pub fn element(self) -> Node<'a> {
        Node(self.0.and_then(Schema::element))
    }

    /// Whether `name` is declared as a field (not merely a key of a map).
    pub fn declares(self, name: &str) -> bool {
        self.0.is_some_and(|s| s.resolve().fields.contains_key(name))
    }

    /// The schema's default.
    pub fn default(self) -> Option<Value> {
        self.0.and_then(|s| s.default.clone())
    }
}

/// Whether a value counts as nothing: absent, null, `{}` or `[]`.
pub fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}
