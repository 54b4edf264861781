//! Mesh configuration: the ConfigMap `istio<-rev>`, key `mesh`, merged over built-in defaults.

pub mod provider;

pub use provider::ExtensionProvider;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lenient::{Duration, I32, Opaque};
use crate::names;
use crate::networking::destination_rule::{ConnectionPool, LocalityLb, OutlierDetection, TcpKeepalive};
use crate::networking::sidecar::OutboundTrafficPolicy;
use crate::networking::virtual_service::HttpRetry;

/// Why a text is no mesh configuration.
#[derive(Debug, thiserror::Error)]
#[error("mesh configuration: {0}; the configuration before stays in force")]
pub struct MeshConfigError(#[from] serde_json::Error);

/// Configuration of the whole mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// Port that outbound traffic is redirected to.
    pub proxy_listen_port: I32,
    /// Port that inbound traffic is redirected to.
    pub proxy_inbound_listen_port: I32,
    /// Port of an HTTP proxy listener; 0 for none.
    pub proxy_http_port: I32,
    /// Time to connect to an endpoint.
    pub connect_timeout: Duration,
    /// Time to detect a protocol; 0 for no limit.
    pub protocol_detection_timeout: Duration,
    /// Keep-alive of sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// File that proxies write access logs to; none if empty.
    pub access_log_file: String,
    /// Format of access logs.
    pub access_log_format: String,
    /// TEXT or JSON.
    pub access_log_encoding: String,
    /// Whether access logs go to Envoy's access-log service.
    pub enable_envoy_access_log_service: bool,
    /// Whether connections that match no listener are not logged.
    pub disable_envoy_listener_log: bool,
    /// Whether traces are on.
    pub enable_tracing: bool,
    /// Defaults of proxies.
    pub default_config: ProxyConfig,
    /// What happens to traffic whose destination is unknown.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// How traffic reaches the workload from its proxy.
    pub inbound_traffic_policy: InboundTrafficPolicy,
    /// Trust domain of the mesh.
    pub trust_domain: String,
    /// Trust domains that mean the same.
    pub trust_domain_aliases: Vec<String>,
    /// Further roots that are trusted; kept as written.
    pub ca_certificates: Vec<Opaque>,
    /// Who sees services by default.
    pub default_service_export_to: Vec<String>,
    /// Who sees VirtualServices by default.
    pub default_virtual_service_export_to: Vec<String>,
    /// Who sees DestinationRules by default.
    pub default_destination_rule_export_to: Vec<String>,
    /// Namespace whose configuration is the mesh's.
    pub root_namespace: String,
    /// Preference of localities.
    pub locality_lb_setting: LocalityLb,
    /// Time between name resolutions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_refresh_rate: Option<Duration>,
    /// DO_NOT_UPGRADE or UPGRADE to HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub h2_upgrade_policy: Option<String>,
    /// Pattern of inbound clusters' statistics.
    pub inbound_cluster_stat_name: String,
    /// Pattern of outbound clusters' statistics.
    pub outbound_cluster_stat_name: String,
    /// Whether clients use mutual TLS wherever the server has it.
    pub enable_auto_mtls: bool,
    /// Namespaces that are looked at; all if empty. Kept as written.
    pub discovery_selectors: Vec<Opaque>,
    /// How paths are normalised before anything looks at them.
    pub path_normalization: PathNormalization,
    /// Retries of outbound requests where no route says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_http_retry_policy: Option<HttpRetry>,
    /// Retries of inbound requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_inbound_http_retry_policy: Option<HttpRetry>,
    /// Limits and outlier detection where no DestinationRule says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    /// TLS inside the mesh.
    #[serde(rename = "meshMTLS", skip_serializing_if = "Option::is_none")]
    pub mesh_mtls: Option<TlsConfig>,
    /// TLS elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_defaults: Option<TlsConfig>,
    /// External authorisers, access-log receivers, tracers, metrics.
    pub extension_providers: Vec<ExtensionProvider>,
    /// Providers that are used where nothing else is said.
    pub default_providers: DefaultProviders,
    /// Settings by host; kept as written.
    pub service_settings: Vec<ServiceSettings>,
    /// Whether the agent merges application metrics into its own.
    pub enable_prometheus_merge: bool,
    /// Class of Ingress objects.
    pub ingress_class: String,
    /// Service of the ingress gateway.
    pub ingress_service: String,
    /// Label value of the ingress gateway.
    pub ingress_selector: String,
    /// Which Ingress objects are read: STRICT, DEFAULT, OFF.
    pub ingress_controller_mode: String,
    /// Fields that this version does not read.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            proxy_listen_port: crate::lenient::Number(15001),
            proxy_inbound_listen_port: crate::lenient::Number(15006),
            proxy_http_port: crate::lenient::Number(0),
            connect_timeout: Duration::seconds(10),
            protocol_detection_timeout: Duration::seconds(0),
            tcp_keepalive: None,
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: "TEXT".to_owned(),
            enable_envoy_access_log_service: false,
            disable_envoy_listener_log: false,
            enable_tracing: true,
            default_config: ProxyConfig::default(),
            outbound_traffic_policy: OutboundTrafficPolicy {
                mode: Some("ALLOW_ANY".to_owned()),
                egress_proxy: None,
            },
            inbound_traffic_policy: InboundTrafficPolicy::default(),
            trust_domain: names::CLUSTER_DOMAIN.to_owned(),
            trust_domain_aliases: Vec::new(),
            ca_certificates: Vec::new(),
            default_service_export_to: vec!["*".to_owned()],
            default_virtual_service_export_to: vec!["*".to_owned()],
            default_destination_rule_export_to: vec!["*".to_owned()],
            root_namespace: names::ROOT_NAMESPACE.to_owned(),
            locality_lb_setting: LocalityLb {
                enabled: Some(true),
                ..LocalityLb::default()
            },
            dns_refresh_rate: Some(Duration::seconds(60)),
            h2_upgrade_policy: None,
            inbound_cluster_stat_name: String::new(),
            outbound_cluster_stat_name: String::new(),
            enable_auto_mtls: true,
            discovery_selectors: Vec::new(),
            path_normalization: PathNormalization::default(),
            default_http_retry_policy: None,
            default_inbound_http_retry_policy: None,
            default_traffic_policy: None,
            mesh_mtls: None,
            tls_defaults: None,
            extension_providers: ExtensionProvider::built_in(),
            default_providers: DefaultProviders::default(),
            service_settings: Vec::new(),
            enable_prometheus_merge: true,
            ingress_class: "istio".to_owned(),
            ingress_service: names::object::INGRESS_GATEWAY.to_owned(),
            ingress_selector: "ingressgateway".to_owned(),
            ingress_controller_mode: "STRICT".to_owned(),
            rest: BTreeMap::new(),
        }
    }
}

impl MeshConfig {
    /// Reads a configuration over the built-in defaults. Providers of the built-in names are kept beside the given.
    ///
    /// # Errors
    /// A field of the wrong type; unknown fields are kept in `rest`.
    pub fn from_json(mut value: Value) -> Result<Self, MeshConfigError> {
        crate::lenient::strip_nulls(&mut value);
        if value.is_null() {
            return Ok(Self::default());
        }
        let mut config: Self = serde_json::from_value(value)?;
        for provider in ExtensionProvider::built_in() {
            if config.extension_providers.iter().all(|p| p.name != provider.name) {
                config.extension_providers.push(provider);
            }
        }
        Ok(config)
    }

    /// The provider of that name.
    pub fn provider(&self, name: &str) -> Option<&ExtensionProvider> {
        self.extension_providers.iter().find(|provider| provider.name == name)
    }
}

/// Defaults of proxies, part of the mesh configuration and of the annotation `proxy.istio.io/config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Directory of the proxy's configuration.
    pub config_path: String,
    /// Path of the proxy's binary.
    pub binary_path: String,
    /// Name of the proxy's cluster in tracing and statistics.
    pub service_cluster: String,
    /// Time that connections have to end.
    pub drain_duration: Duration,
    /// Address of the control plane.
    pub discovery_address: String,
    /// MUTUAL_TLS or NONE towards the control plane.
    pub control_plane_auth_policy: String,
    /// Port of the administration interface.
    pub proxy_admin_port: I32,
    /// Number of worker threads; 0 for all cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<I32>,
    /// REDIRECT, TPROXY or NONE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interception_mode: Option<String>,
    /// Traces; kept as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Value>,
    /// Address of statsd.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub statsd_udp_address: String,
    /// Port of the agent's status server.
    pub status_port: I32,
    /// Further variables of the proxy's metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_metadata: BTreeMap<String, String>,
    /// Time that a proxy waits before it ends.
    pub termination_drain_duration: Duration,
    /// Whether the application starts only when the proxy is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_application_until_proxy_starts: Option<bool>,
    /// Which headers the proxy adds; kept as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_headers: Option<Value>,
    /// What is in front of a gateway; kept as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_topology: Option<Value>,
    /// Fields that this version only hands on.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            config_path: "./etc/istio/proxy".to_owned(),
            binary_path: "/usr/local/bin/envoy".to_owned(),
            service_cluster: "istio-proxy".to_owned(),
            drain_duration: Duration::seconds(45),
            discovery_address: "istiod.istio-system.svc:15012".to_owned(),
            control_plane_auth_policy: "MUTUAL_TLS".to_owned(),
            proxy_admin_port: crate::lenient::Number(15000),
            concurrency: None,
            interception_mode: None,
            tracing: None,
            statsd_udp_address: String::new(),
            status_port: crate::lenient::Number(15020),
            proxy_metadata: BTreeMap::new(),
            termination_drain_duration: Duration::seconds(5),
            hold_application_until_proxy_starts: None,
            proxy_headers: None,
            gateway_topology: None,
            rest: BTreeMap::new(),
        }
    }
}

/// How traffic reaches the workload from its proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InboundTrafficPolicy {
    /// PASSTHROUGH (default) or LOCALHOST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// How paths are normalised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathNormalization {
    /// DEFAULT, NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalization: Option<String>,
}

/// Limits and outlier detection where no DestinationRule says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultTrafficPolicy {
    /// Limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,
    /// When endpoints are taken out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
}

/// Parameters of TLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsConfig {
    /// Lowest version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_protocol_version: Option<String>,
    /// Curves.
    pub ecdh_curves: Vec<String>,
    /// Cipher suites.
    pub cipher_suites: Vec<String>,
}

/// Providers that are used where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultProviders {
    /// Of traces.
    pub tracing: Vec<String>,
    /// Of metrics.
    pub metrics: Vec<String>,
    /// Of access logs.
    pub access_logging: Vec<String>,
}

/// Settings of some hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettings {
    /// The settings.
    pub settings: ServiceSetting,
    /// Hosts, `*.` prefixes allowed.
    pub hosts: Vec<String>,
}

/// Setting of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSetting {
    /// Whether only endpoints of the client's cluster are used.
    pub cluster_local: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn given_fields_win_over_defaults_and_unknown_ones_are_kept() {
        let config = MeshConfig::from_json(json!({
            "trustDomain": "td1",
            "defaultConfig": { "discoveryAddress": "istiod-canary.istio-system.svc:15012", "novel": 1 },
            "accessLogFile": null,
            "future": true,
        }))
        .unwrap();
        assert_eq!(config.trust_domain, "td1");
        assert_eq!(
            config.default_config.discovery_address,
            "istiod-canary.istio-system.svc:15012"
        );
        assert_eq!(config.default_config.drain_duration, Duration::seconds(45));
        assert!(config.rest.contains_key("future") && config.default_config.rest.contains_key("novel"));
        assert!(config.provider("prometheus").is_some());
    }
}
