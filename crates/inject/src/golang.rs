//! Kubernetes and mesh objects under the names that Go programs, and so injection templates, know them by.
//!
//! A template says `.Spec.Containers` and `.ObjectMeta.Annotations`: Go's struct fields. JSON says `spec.containers`.
//! The rule is an upper-case first letter, except for acronyms; maps of user data keep their keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::lenient::Duration;
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

/// Texts that Go's struct has, empty where JSON does not name them; by the JSON name under which the struct, or a list of
/// them, stands. A template may print such a field of a pod that does not have it.
const TEXTS: [(&str, &[&str]); 8] = [
    (
        "metadata",
        &["name", "generateName", "namespace", "uid", "resourceVersion"],
    ),
    (
        "spec",
        &[
            "restartPolicy",
            "dnsPolicy",
            "serviceAccountName",
            "nodeName",
            "hostname",
            "subdomain",
            "schedulerName",
            "priorityClassName",
        ],
    ),
    ("containers", CONTAINER),
    ("initContainers", CONTAINER),
    ("ports", &["name", "protocol", "hostIP"]),
    ("env", &["name", "value"]),
    ("volumeMounts", &["name", "mountPath", "subPath", "subPathExpr"]),
    (
        "proxyConfig",
        &[
            "meshId",
            "statsdUdpAddress",
            "customConfigFile",
            "zipkinAddress",
            "caCertificatesPem",
        ],
    ),
];
const CONTAINER: &[&str] = &[
    "name",
    "image",
    "workingDir",
    "imagePullPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
];
/// Flags that are off where JSON does not name them.
const FLAGS: [(&str, &[&str]); 3] = [
    ("spec", &["hostNetwork", "hostPID", "hostIPC"]),
    ("containers", &["stdin", "stdinOnce", "tty"]),
    ("volumeMounts", &["readOnly"]),
];

/// What the struct of a name has whether or not it is given.
fn zeros(kind: &str) -> impl Iterator<Item = (String, Value)> {
    let of = |table: &'static [(&str, &[&str])]| {
        let found = table.iter().find(|(name, _)| *name == kind);
        found.into_iter().flat_map(|(_, fields)| fields.iter().copied())
    };
    let texts = of(&TEXTS).map(|field| (field_name(field), Value::String("".into())));
    let flags = of(&FLAGS).map(|field| (field_name(field), Value::Bool(false)));
    texts.chain(flags)
}

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

/// A struct: fields renamed, its JSON kept aside. `kind` is the field it stands in.
pub(crate) fn structure(kind: &str, json: &Json) -> Value {
    match json {
        Json::Object(fields) => {
            let zeros = zeros(kind).map(|(name, value)| (name.into(), value));
            let mut map: BTreeMap<Arc<str>, Value> = zeros.collect();
            for (key, value) in fields {
                let value = if MAPS.contains(&key.as_str()) {
                    from_json(value)
                } else {
                    structure(key, value)
                };
                if !matches!(value, Value::Nil) {
                    map.insert(field_name(key).into(), value);
                }
            }
            map.insert(ORIGINAL.into(), Value::String(json.to_string().into()));
            Value::Map(Arc::new(map))
        }
        Json::Array(items) => Value::List(items.iter().map(|item| structure(kind, item)).collect()),
        scalar => from_json(scalar),
    }
}

/// A protobuf message: like a struct, with nil-safe getters (`GetTracing`), enumerations that know `String`, and
/// wrapped scalars that know `GetValue`.
pub(crate) fn message(kind: &str, json: &Json) -> Value {
    match json {
        Json::Object(fields) => {
            let mut map: BTreeMap<Arc<str>, Value> = BTreeMap::new();
            for (name, value) in zeros(kind) {
                map.insert(format!("Get{name}").into(), value.clone());
                map.insert(name.into(), value);
            }
            for (key, value) in fields {
                let value = match (MAPS.contains(&key.as_str()), value) {
                    (true, value) => from_json(value),
                    (false, Json::String(text)) if is_enumeration(key, text) => enumeration(text),
                    (false, Json::Bool(flag)) => wrapped(Value::Bool(*flag), *flag, key),
                    (false, value) => message(key, value),
                };
                let name = field_name(key);
                map.insert(format!("Get{name}").into(), value.clone());
                map.insert(name.into(), value);
            }
            map.insert(ORIGINAL.into(), Value::String(json.to_string().into()));
            Value::Map(Arc::new(map))
        }
        Json::Array(items) => Value::List(items.iter().map(|item| message(kind, item)).collect()),
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

/// A span of time as Go prints it: `1m30s`, `45s`, `500ms`.
pub(crate) fn duration(duration: Duration) -> String {
    let (seconds, nanos) = (
        duration.seconds.unsigned_abs(),
        u64::from(duration.nanos.unsigned_abs()),
    );
    let sign = if duration.seconds < 0 || duration.nanos < 0 {
        "-"
    } else {
        ""
    };
    let with_fraction = |whole: u64, fraction: u64, digits: usize, unit: &str| {
        let fraction = format!("{fraction:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => format!("{whole}{unit}"),
            fraction => format!("{whole}.{fraction}{unit}"),
        }
    };
    let text = match (seconds, nanos) {
        (0, 0) => "0s".to_owned(),
        (0, 1..1_000) => format!("{nanos}ns"),
        (0, 1_000..1_000_000) => with_fraction(nanos / 1_000, nanos % 1_000, 3, "µs"),
        (0, _) => with_fraction(nanos / 1_000_000, nanos % 1_000_000, 6, "ms"),
        _ => {
            let rest = with_fraction(seconds % 60, nanos, 9, "s");
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => rest,
                (0, minutes) => format!("{minutes}m{rest}"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
            }
        }
    };
    format!("{sign}{text}")
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
