//! `telemetry.istio.io`: access logs, metrics, traces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lenient::Opaque;
use crate::security::{Selector, TargetRef};

/// Telemetry of workloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Telemetry {
    /// Workloads that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Resource that it is for (older field).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Resources that it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<TargetRef>,
    /// Traces; kept as written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tracing: Vec<Opaque>,
    /// Metrics; kept as written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Opaque>,
    /// Access logs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_logging: Vec<AccessLogging>,
}

/// Access logs of some providers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessLogging {
    /// Which side's traffic it is for.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub selector: Option<LogSelector>,
    /// Who receives the logs; the mesh's default if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderRef>,
    /// Whether they are switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Which requests are logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<LogFilter>,
}

/// Which side's traffic is logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LogSelector {
    /// CLIENT_AND_SERVER, CLIENT or SERVER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// A provider of the mesh configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderRef {
    /// Its name.
    pub name: String,
}

/// Which requests are logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LogFilter {
    /// CEL expression.
    pub expression: String,
}
