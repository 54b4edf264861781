//! The fields of kinds: what strict decoding, strategic merge, field ownership and OpenAPI need to know.

mod builtin;
mod decode;
mod encode;
pub mod quantity;
pub mod time;

use std::collections::BTreeMap;

pub use builtin::{all, builtin, names};
pub use decode::{Decoded, decode};
pub use encode::normalize;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Type {
    /// Anything (`RawExtension`, `JSON`, preserved unknown fields).
    #[default]
    Any,
    /// `true`/`false`.
    Boolean,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Floating point number.
    Number,
    /// Text.
    String,
    /// Base64.
    Bytes,
    /// RFC 3339 seconds.
    Time,
    /// RFC 3339 microseconds.
    MicroTime,
    /// Number or text.
    IntOrString,
    /// `resource.Quantity`.
    Quantity,
    /// A struct: [`Schema::fields`], nothing else.
    Object,
    /// String keys to [`Schema::items`].
    Map,
    /// A list of [`Schema::items`].
    List,
}

/// How a list merges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListType {
    /// As a whole.
    #[default]
    Atomic,
    /// By value.
    Set,
    /// By the values of these keys.
    Map(Vec<String>),
}

/// When the encoded form of a built-in object has the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// Left out when zero; structs are always there.
    #[default]
    OmitEmpty,
    /// Left out when not given; an explicit zero stays.
    Pointer,
    /// Always there, zero or `null` when not given.
    Always,
    /// Always there, `null` when not given.
    AlwaysPointer,
    /// Structs too are left out when zero.
    OmitZero,
}

/// One node of a kind's structure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schema {
    /// What it holds.
    pub ty: Type,
    /// Name of the built-in struct to look up instead ([`builtin`]), for recursion and sharing.
    pub reference: Option<String>,
    /// Fields of an object.
    pub fields: BTreeMap<String, Schema>,
    /// Element of a list or value of a map.
    pub items: Option<Box<Schema>>,
    /// Server-side apply: how a list merges.
    pub list_type: ListType,
    /// Server-side apply: a map or object that is owned as a whole (also look at the resolved node).
    pub atomic: bool,
    /// Unknown fields of an object are kept.
    pub preserve_unknown: bool,
    /// Defaults of list-map keys that may be absent (`protocol: TCP`).
    pub default: Option<serde_json::Value>,
    /// Strategic merge: key of list elements.
    pub merge_key: Option<String>,
    /// Strategic merge: `merge` strategy given.
    pub patch_merge: bool,
    /// Strategic merge: `replace` strategy given.
    pub patch_replace: bool,
    /// Strategic merge: `retainKeys` strategy given.
    pub retain_keys: bool,
    /// Presence in the encoded form.
    pub presence: Presence,
    /// Listed in the object's `required`.
    pub required: bool,
    /// Allowed values, for OpenAPI.
    pub allowed: Vec<String>,
    /// Name of the type in Go, for messages of type errors; empty if it is the plain type.
    pub go_type: String,
    /// Protobuf field number; `N.M` for a field of message `N` that JSON inlines.
    pub number: String,
    /// Place in its struct as declared.
    pub order: usize,
}

impl Schema {
    /// This node, or the struct it refers to.
    pub fn resolve(&self) -> &Schema {
        match &self.reference {
            Some(name) => builtin(name).unwrap_or(self),
            None => self,
        }
    }

    /// The field `name` of an object, or the value of a map, unresolved (merge facts sit here).
    pub fn field(&self, name: &str) -> Option<&Schema> {
        let node = self.resolve();
        node.fields.get(name).or(if node.ty == Type::Map {
            node.items.as_deref()
        } else {
            None
        })
    }

    /// The element of a list.
    pub fn element(&self) -> Option<&Schema> {
        self.resolve().items.as_deref()
    }
}
