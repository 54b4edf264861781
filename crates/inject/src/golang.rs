//! Kubernetes and mesh objects under the names that Go programs, and so injection templates, know them by.
//!
//! A template says `.Spec.Containers` and `.ObjectMeta.Annotations`: Go's struct fields. JSON says `spec.containers`.
//! The rule is an upper-case first letter, except for acronyms; maps of user data keep their keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotemplate::{Value, from_json};
use serde_json::Value as Json;

/// Fields that hold user data: their keys are no field names.
const MAPS: [&str; 10] = [
    "labels",
    "annotations",
    "matchLabels",
    "nodeSelector",
    "limits",
    "requests",
    "proxyMetadata",
    "data",
    "stringData",
    "overhead",
];

/// JSON names whose Go name is not just capitalised.
const ACRONYMS: [(&str, &str); 12] = [
    ("apiVersion", "APIVersion"),
    ("uid", "UID"),
    ("dnsPolicy", "DNSPolicy"),
    ("dnsConfig", "DNSConfig"),
    ("fsGroup", "FSGroup"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("tcpSocket", "TCPSocket"),
    ("grpc", "GRPC"),
    ("tty", "TTY"),
    ("ip", "IP"),
    ("id", "ID"),
];

/// Under this key, which no field has, a struct keeps its own JSON for `structToJSON`.
pub(crate) const ORIGINAL: &str = "";

/// The Go name of a JSON field.
fn field_name(json: &str) -> String {
    if let Some((_, name)) = ACRONYMS.iter().find(|(from, _)| *from == json) {
        return (*name).to_owned();
    }
    let mut characters = json.chars();
    characters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + characters.as_str())
        .unwrap_or_default()
}

/// A struct: fields renamed, its JSON kept aside.
pub(crate) fn structure(json: &Json) -> Value {
    match json {
        Json::Object(fields) => {
            let mut map: BTreeMap<Arc<str>, Value> = BTreeMap::new();
            for (key, value) in fields {
                let value = if MAPS.contains(&key.as_str()) {
                    from_json(value)
                } else {
                    structure(value)
                };
                map.insert(field_name(key).into(), value);
            }
            map.insert(ORIGINAL.into(), Value::String(json.to_string().into()));
            Value::Map(Arc::new(map))
        }
        Json::Array(items) => Value::List(items.iter().map(structure).collect()),
        scalar => from_json(scalar),
    }
}

/// A protobuf message: like a struct, with nil-safe getters (`GetTracing`), enumerations that know `String`, and
/// wrapped scalars that know `GetValue`.
pub(crate) fn message(json: &Json) -> Value {
    match json {
        Json::Object(fields) => {
            let mut map: BTreeMap<Arc<str>, Value> = BTreeMap::new();
            for (key, value) in fields {
                let value = match (MAPS.contains(&key.as_str()), value) {
                    (true, value) => from_json(value),
                    (false, Json::String(text)) if is_enumeration(key, text) => enumeration(text),
                    (false, Json::Bool(flag)) => wrapped(Value::Bool(*flag), *flag, key),
                    (false, value) => message(value),
                };
                let name = field_name(key);
                map.insert(format!("Get{name}").into(), value.clone());
                map.insert(name.into(), value);
            }
            map.insert(ORIGINAL.into(), Value::String(json.to_string().into()));
            Value::Map(Arc::new(map))
        }
        Json::Array(items) => Value::List(items.iter().map(message).collect()),
        scalar => from_json(scalar),
    }
}

fn is_enumeration(key: &str, text: &str) -> bool {
    matches!(key, "interceptionMode" | "mode" | "defaultHttpRetryPolicy")
        && text.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

/// An enumeration value: a string to the functions here, with the method `String`.
pub(crate) fn enumeration(text: &str) -> Value {
    Value::Map(Arc::new(BTreeMap::from([(
        Arc::from("String"),
        Value::String(text.into()),
    )])))
}

/// Flags that are wrapped in a message, so that unset can be told from false.
fn wrapped(value: Value, flag: bool, key: &str) -> Value {
    if !matches!(
        key,
        "holdApplicationUntilProxyStarts" | "enablePrometheusMerge" | "enableAutoMtls"
    ) {
        return value;
    }
    Value::Map(Arc::new(BTreeMap::from([
        (Arc::from("GetValue"), Value::Bool(flag)),
        (Arc::from("Value"), Value::Bool(flag)),
    ])))
}

/// The scalar that a value stands for: enumerations are their text.
pub(crate) fn scalar(value: &Value) -> Value {
    match value {
        Value::Map(map) => match (map.len(), map.get("String")) {
            (1, Some(text)) => text.clone(),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}
