//! Small steps between our values and Envoy's messages.

use std::collections::BTreeMap;

use api::lenient;
use prost::{Message, Name};
use xds::envoy::config::core::v3 as core;
use xds::google::protobuf::{self, Any, BoolValue, Struct, UInt32Value, Value, value};

/// A message inside an `Any`.
pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec().into(),
    }
}

/// An `Any` whose content is encoded elsewhere.
pub(crate) fn any_of(type_name: &str, bytes: Vec<u8>) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{type_name}"),
        value: bytes.into(),
    }
}

/// A duration.
pub(crate) fn duration(duration: lenient::Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: duration.seconds,
        nanos: duration.nanos,
    }
}

/// A duration of whole seconds.
pub(crate) const fn seconds(seconds: i64) -> protobuf::Duration {
    protobuf::Duration { seconds, nanos: 0 }
}

/// A wrapped number.
pub(crate) const fn u32_value(value: u32) -> UInt32Value {
    UInt32Value { value }
}

/// A wrapped truth value.
pub(crate) const fn bool_value(value: bool) -> BoolValue {
    BoolValue { value }
}

/// A socket address.
pub(crate) fn socket_address(address: &str, port: u16) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(port))),
            ..Default::default()
        })),
    }
}

/// The address of a Unix socket.
pub(crate) fn pipe_address(path: &str) -> core::Address {
    core::Address {
        address: Some(core::address::Address::Pipe(core::Pipe {
            path: path.to_owned(),
            mode: 0,
        })),
    }
}

/// "Ask the control plane", without a limit on the time of the first answer.
pub(crate) fn ads() -> core::ConfigSource {
    core::ConfigSource {
        initial_fetch_timeout: Some(seconds(0)),
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource {},
        )),
        ..Default::default()
    }
}

/// "Ask the cluster of that name over gRPC" (the agent's secrets).
pub(crate) fn grpc_source(cluster: &str) -> core::ConfigSource {
    use core::{api_config_source, config_source, grpc_service};
    core::ConfigSource {
        initial_fetch_timeout: Some(seconds(0)),
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(
            core::ApiConfigSource {
                api_type: api_config_source::ApiType::Grpc as i32,
                transport_api_version: core::ApiVersion::V3 as i32,
                set_node_on_first_message_only: true,
                grpc_services: vec![core::GrpcService {
                    target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
                        cluster_name: cluster.to_owned(),
                        ..Default::default()
                    })),
                    ..Default::default()
                }],
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

/// A text inside a `Struct`.
pub(crate) fn text(text: impl Into<String>) -> Value {
    Value {
        kind: Some(value::Kind::StringValue(text.into())),
    }
}

/// A list inside a `Struct`.
pub(crate) fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value {
        kind: Some(value::Kind::ListValue(protobuf::ListValue {
            values: values.into_iter().collect(),
        })),
    }
}

/// An object inside a `Struct`.
pub(crate) fn object<K: Into<String>>(fields: impl IntoIterator<Item = (K, Value)>) -> Value {
    Value {
        kind: Some(value::Kind::StructValue(fields_of(fields))),
    }
}

/// A `Struct`.
pub(crate) fn fields_of<K: Into<String>>(fields: impl IntoIterator<Item = (K, Value)>) -> Struct {
    Struct {
        fields: fields.into_iter().map(|(key, value)| (key.into(), value)).collect(),
    }
}

/// Metadata under one or more filters' names.
pub(crate) fn metadata<const N: usize>(filters: [(&str, Struct); N]) -> core::Metadata {
    core::Metadata {
        filter_metadata: filters
            .into_iter()
            .map(|(name, fields)| (name.to_owned(), fields))
            .collect(),
        typed_filter_metadata: BTreeMap::new(),
    }
}

/// A JSON value as a protobuf one.
pub(crate) fn value_of_json(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => value::Kind::NullValue(0),
        serde_json::Value::Bool(b) => value::Kind::BoolValue(*b),
        serde_json::Value::Number(n) => value::Kind::NumberValue(n.as_f64().unwrap_or_default()),
        serde_json::Value::String(s) => value::Kind::StringValue(s.clone()),
        serde_json::Value::Array(items) => return list(items.iter().map(value_of_json)),
        serde_json::Value::Object(map) => return object(map.iter().map(|(k, v)| (k.clone(), value_of_json(v)))),
    };
    Value { kind: Some(kind) }
}
