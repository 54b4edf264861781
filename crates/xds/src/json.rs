//! Canonical protobuf JSON with `Any` expanded, both ways.
//!
//! A message inside an `Any` is rendered under its own type if the descriptor set knows it. Unknown types are an
//! error in canonical protobuf JSON; here they come out as hexadecimal bytes, so that a dump never fails.

use std::sync::LazyLock;

use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::google::protobuf::Any;

/// Why JSON could not be turned into a message, or a message into JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The descriptor set has no message of that name.
    #[error("message type {0:?} is unknown to this version; check the @type for a misspelling")]
    UnknownType(String),
    /// The bytes are no message of the type.
    #[error("cannot decode {type_name}: {source}")]
    Decode {
        /// Full name of the message type.
        type_name: String,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// The JSON does not fit the type.
    #[error("JSON does not fit {type_name}: {source}")]
    Json {
        /// Full name of the message type.
        type_name: String,
        /// What the parser said.
        source: serde_json::Error,
    },
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(&include_bytes!("api.fds.bin")[..]).unwrap_or_default();
    // A file that cannot be added is shown in hexadecimal, like every unknown type.
    drop(pool.add_file_descriptor_proto(dynamic_forward_proxy()));
    pool
});

/// The filter that resolves names of requests; the descriptor set has its cluster and its cache, and not it.
fn dynamic_forward_proxy() -> FileDescriptorProto {
    let field = |name: &str, number: i32, kind: Type, type_name: Option<&str>| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional as i32),
        r#type: Some(kind as i32),
        type_name: type_name.map(str::to_owned),
        ..Default::default()
    };
    let cache = ".envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig";
    FileDescriptorProto {
        name: Some("envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy.proto".to_owned()),
        package: Some("envoy.extensions.filters.http.dynamic_forward_proxy.v3".to_owned()),
        dependency: vec!["envoy/extensions/common/dynamic_forward_proxy/v3/dns_cache.proto".to_owned()],
        message_type: vec![DescriptorProto {
            name: Some("FilterConfig".to_owned()),
            field: vec![
                field("dns_cache_config", 1, Type::Message, Some(cache)),
                field("save_upstream_address", 2, Type::Bool, None),
            ],
            ..Default::default()
        }],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

/// Descriptors of every message this crate knows.
pub fn descriptors() -> &'static DescriptorPool {
    &POOL
}

/// Full message name of a type URL (what follows the last `/`).
pub fn type_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

/// Decodes bytes as a message of the named type.
pub fn decode(name: &str, bytes: &[u8]) -> Result<DynamicMessage, JsonError> {
    let descriptor = POOL
        .get_message_by_name(name)
        .ok_or_else(|| JsonError::UnknownType(name.to_owned()))?;
    DynamicMessage::decode(descriptor, bytes).map_err(|source| JsonError::Decode {
        type_name: name.to_owned(),
        source,
    })
}

/// Canonical JSON of a message (lowerCamelCase, defaults left out), `@type` not included.
pub fn message_to_json(message: &DynamicMessage) -> Result<Value, JsonError> {
    message
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|source| JsonError::Json {
            type_name: message.descriptor_name(),
            source,
        })
}

/// JSON of a typed message.
pub fn to_json<M: prost::Message + prost::Name>(message: &M) -> Result<Value, JsonError> {
    message_to_json(&decode(&M::full_name(), &message.encode_to_vec())?)
}

/// JSON of an `Any` with its `@type`; content of an unknown type is shown in hexadecimal under `value`.
pub fn any_to_json(any: &Any) -> Result<Value, JsonError> {
    let mut value = match decode(type_name(&any.type_url), &any.value).and_then(|m| message_to_json(&m)) {
        Ok(value) => value,
        Err(JsonError::UnknownType(_) | JsonError::Json { .. }) => {
            serde_json::json!({ "value": any.value.iter().map(|b| format!("{b:02x}")).collect::<String>() })
        }
        Err(error) => return Err(error),
    };
    if let Value::Object(map) = &mut value {
        map.insert("@type".to_owned(), Value::String(any.type_url.clone()));
    }
    Ok(value)
}

/// A typed message from canonical JSON. Unknown fields are errors.
pub fn from_json<M: prost::Message + prost::Name + Default>(json: &Value) -> Result<M, JsonError> {
    let name = M::full_name();
    let descriptor = POOL
        .get_message_by_name(&name)
        .ok_or_else(|| JsonError::UnknownType(name.clone()))?;
    let message = DynamicMessage::deserialize(descriptor, json).map_err(|source| JsonError::Json {
        type_name: name.clone(),
        source,
    })?;
    message.transcode_to().map_err(|source| JsonError::Decode {
        type_name: name,
        source,
    })
}

trait DescriptorName {
    fn descriptor_name(&self) -> String;
}

impl DescriptorName for DynamicMessage {
    fn descriptor_name(&self) -> String {
        prost_reflect::ReflectMessage::descriptor(self).full_name().to_owned()
    }
}
