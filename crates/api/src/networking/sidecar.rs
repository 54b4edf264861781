//! Sidecar: what a sidecar proxy sees and listens on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::destination_rule::ConnectionPool;
use super::gateway::ServerTls;
use super::virtual_service::Destination;
use super::{Port, WorkloadSelector};

/// Scope of sidecar proxies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    /// Workloads that it is for; all of the namespace if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,
    /// What arrives at the workload.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<IngressListener>,
    /// What the workload may reach.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressListener>,
    /// Limits of connections to the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbound_connection_pool: Option<ConnectionPool>,
    /// What happens to traffic whose destination is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// A port that receives traffic for the workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressListener {
    /// The port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Address to listen on.
    pub bind: String,
    /// DEFAULT, IPTABLES or NONE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture_mode: Option<String>,
    /// Where traffic goes, `127.0.0.1:port`, `0.0.0.0:port` or `unix:///path`.
    pub default_endpoint: String,
    /// TLS that the proxy terminates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// Limits of connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
}

/// A set of services that the workload may reach.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EgressListener {
    /// The port, if the listener is for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Address or socket to listen on.
    pub bind: String,
    /// DEFAULT, IPTABLES or NONE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture_mode: Option<String>,
    /// Services, `namespace/host`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// What happens to traffic whose destination is unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    /// REGISTRY_ONLY, ALLOW_ANY or ALLOW_ANY_DYNAMIC_DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// A proxy that such traffic goes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_proxy: Option<Destination>,
}

impl OutboundTrafficPolicy {
    /// Whether such traffic is blocked.
    pub fn registry_only(&self) -> bool {
        self.mode.as_deref() == Some("REGISTRY_ONLY")
    }
}
