//! `networking.istio.io`: routes, destinations, gateways, services beyond Kubernetes'.

pub mod destination_rule;
pub mod gateway;
pub mod service_entry;
pub mod sidecar;
pub mod virtual_service;

pub use destination_rule::DestinationRule;
pub use gateway::Gateway;
pub use service_entry::{ServiceEntry, WorkloadEntry, WorkloadGroup};
pub use sidecar::Sidecar;
pub use virtual_service::VirtualService;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lenient::{Opaque, U32};

/// Selects workloads by their labels; empty selects all of the namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// Labels that a workload must have, all of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A port of a service or gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Port number.
    pub number: U32,
    /// Protocol: HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS.
    pub protocol: String,
    /// Name of the port, unique in its list.
    pub name: String,
    /// Port of the endpoint, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<U32>,
}

/// Patches to Envoy's configuration (EnvoyFilter); kept as written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyFilter {
    /// Workloads that the patches apply to; all of the namespace if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,
    /// Resources that the patches apply to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<crate::security::TargetRef>,
    /// Patches, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config_patches: Vec<Opaque>,
    /// Order among EnvoyFilters: lower first.
    pub priority: crate::lenient::I32,
}

/// Settings of proxies, by namespace or workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Workloads that the settings apply to; all of the namespace if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<crate::security::Selector>,
    /// Number of worker threads; 0 uses all cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<crate::lenient::I32>,
    /// Environment variables of the proxy.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment_variables: BTreeMap<String, String>,
    /// Flavour of the proxy's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Opaque>,
}
