//! Extension providers: services and sinks that policies refer to by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lenient::{Duration, U32};

/// One provider; exactly one of the optional fields is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    /// Name by which policies refer to it.
    pub name: String,
    /// Authoriser that speaks HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy_ext_authz_http: Option<ExtAuthzHttp>,
    /// Authoriser that speaks gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
    /// File of access logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy_file_access_log: Option<FileAccessLog>,
    /// Prometheus; it has no settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Value>,
    /// Other kinds, kept as written.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl ExtensionProvider {
    /// Providers that exist without being configured.
    pub fn built_in() -> Vec<Self> {
        vec![
            Self {
                name: "prometheus".to_owned(),
                prometheus: Some(Value::Object(Default::default())),
                ..Self::default()
            },
            Self {
                name: "stackdriver".to_owned(),
                other: [("stackdriver".to_owned(), Value::Object(Default::default()))].into(),
                ..Self::default()
            },
            Self {
                name: "envoy".to_owned(),
                envoy_file_access_log: Some(FileAccessLog {
                    path: "/dev/stdout".to_owned(),
                    log_format: None,
                }),
                ..Self::default()
            },
        ]
    }
}

/// File of access logs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileAccessLog {
    /// The file.
    pub path: String,
    /// The format; Istio's text format if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

/// Format of access logs: one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogFormat {
    /// Text with operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// JSON with operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Value>,
}

/// Request body that an authoriser receives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BodyInCheck {
    /// Most bytes that are kept.
    pub max_request_bytes: U32,
    /// Whether a longer body is cut instead of refused.
    pub allow_partial_message: bool,
    /// Whether the body is sent as bytes.
    pub pack_as_bytes: bool,
}

/// Authoriser that speaks HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtAuthzHttp {
    /// Its service, `[namespace/]host`.
    pub service: String,
    /// Its port.
    pub port: U32,
    /// Time to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Prefix of the path it is asked under.
    pub path_prefix: String,
    /// Whether requests pass when it fails.
    pub fail_open: bool,
    /// Whether the route is chosen again afterwards.
    pub clear_route_cache: bool,
    /// Status when it fails.
    pub status_on_error: String,
    /// Headers that it receives (older field).
    pub include_headers_in_check: Vec<String>,
    /// Headers that it receives.
    pub include_request_headers_in_check: Vec<String>,
    /// Headers with fixed values that it receives.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// Body that it receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_request_body_in_check: Option<BodyInCheck>,
    /// Headers of its answer that go on when it allows.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of its answer that go back when it denies.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of its answer that go back when it allows.
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// Authoriser that speaks gRPC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtAuthzGrpc {
    /// Its service, `[namespace/]host`.
    pub service: String,
    /// Its port.
    pub port: U32,
    /// Time to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Whether requests pass when it fails.
    pub fail_open: bool,
    /// Whether the route is chosen again afterwards.
    pub clear_route_cache: bool,
    /// Status when it fails.
    pub status_on_error: String,
    /// Body that it receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_request_body_in_check: Option<BodyInCheck>,
}
