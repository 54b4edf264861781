//! Who this proxy says it is to istiod: id, metadata, locality (control-plane.md §4.3).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::proxy_config::ProxyConfig;
use crate::settings::Environment;

/// What kind of proxy this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Beside an application.
    Sidecar,
    /// A gateway.
    Router,
    /// A waypoint.
    Waypoint,
}

impl Role {
    /// The name in node ids and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Router => "router",
            Self::Waypoint => "waypoint",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "sidecar" => Ok(Self::Sidecar),
            "router" => Ok(Self::Router),
            "waypoint" => Ok(Self::Waypoint),
            _ => Err(format!("invalid proxy type {s:?}; choose sidecar, router or waypoint")),
        }
    }
}

/// Where this proxy runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Part of a zone.
    pub sub_zone: String,
}

/// Everything that is known of the node.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Node id.
    pub id: String,
    /// Addresses of the instance, the pod's own first.
    pub instance_ips: Vec<IpAddr>,
    /// Labels from the downward API, if they are there.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations from the downward API, if they are there.
    pub annotations: Option<BTreeMap<String, String>>,
    /// Names to expect in istiod's certificate.
    pub pilot_san: Vec<String>,
    /// `--outlierLogPath`.
    pub outlier_log_path: String,
    /// `ENVOY_STATUS_PORT`.
    pub envoy_status_port: u16,
    /// `ENVOY_PROMETHEUS_PORT`.
    pub envoy_prometheus_port: u16,
    /// `ENVOY_SECURE_METRICS_PORT`, 0 for none.
    pub secure_metrics_port: u16,
    /// `ENVOY_SECURE_MERGED_METRICS_PORT`, 0 for none.
    pub secure_merged_metrics_port: u16,
    /// `EXIT_ON_ZERO_ACTIVE_CONNECTIONS`.
    pub exit_on_zero_connections: bool,
    /// `ENVOY_SKIP_DEPRECATED_LOGS`.
    pub skip_deprecated_logs: bool,
    /// `PEER_METADATA_DISCOVERY`, if set.
    pub metadata_discovery: Option<bool>,
    /// Name of the SDS socket.
    pub sds_socket: String,
    /// Version of this build.
    pub version: String,
}

/// The node, ready for the bootstrap.
#[derive(Debug, Clone)]
pub struct Node {
    /// Node id.
    pub id: String,
    /// Metadata, sorted by key.
    pub metadata: Map<String, Value>,
    /// Locality.
    pub locality: Locality,
    /// Labels that count.
    pub labels: BTreeMap<String, String>,
    /// Annotations that count.
    pub annotations: BTreeMap<String, String>,
    /// Addresses, without duplicates.
    pub instance_ips: Vec<IpAddr>,
}

/// `<type>~<ip>~<pod>.<namespace>~<domain>` (control-plane.md §1.9).
pub fn id(role: Role, ip: IpAddr, pod: &str, namespace: &str, domain: &str) -> String {
    format!("{}~{ip}~{pod}.{namespace}~{domain}", role.name())
}

impl Node {
    /// A text value of the metadata.
    pub fn text(&self, key: &str) -> &str {
        self.metadata.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether a value of the metadata is the text `true`.
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.text(key), "true" | "1")
    }
}

/// Node metadata from the environment, the proxy's configuration and the downward API.
pub fn node(env: &Environment, config: &ProxyConfig, facts: &Facts) -> Node {
    let mut metadata = environment_metadata(env, config);
    let mut static_labels = json_map(env.get("ISTIO_METAJSON_LABELS"));
    let mut labels = static_labels.clone();
    if let Some(from_pod) = &facts.labels {
        // The hash differs between revisions of a Deployment and says nothing about the workload.
        labels.extend(
            from_pod
                .iter()
                .filter(|(k, _)| *k != "pod-template-hash")
                .map(|(k, v)| (k.clone(), v.clone())),
        );
    }
    let annotations = facts.annotations.clone().unwrap_or_default();
    locality(&mut static_labels);
    let locality = locality(&mut labels);
    for (key, variable) in [
        ("NAME", "POD_NAME"),
        ("NAMESPACE", "POD_NAMESPACE"),
        ("SERVICE_ACCOUNT", "SERVICE_ACCOUNT"),
    ] {
        if let Some(value) = env.get(variable).filter(|v| !v.is_empty()) {
            metadata.insert(key.to_owned(), value.as_str().into());
        }
    }
    let mut ips = facts.instance_ips.clone();
    let mut seen = std::collections::BTreeSet::new();
    ips.retain(|ip| seen.insert(*ip));
    let joined = ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    metadata.insert("INSTANCE_IPS".to_owned(), joined.into());
    metadata
        .entry("ISTIO_VERSION")
        .or_insert_with(|| facts.version.as_str().into());
    for (key, map) in [
        ("LABELS", &labels),
        ("STATIC_LABELS", &static_labels),
        ("ANNOTATIONS", &annotations),
    ] {
        if !map.is_empty() {
            metadata.insert(key.to_owned(), json!(map));
        }
    }
    metadata.insert("PROXY_CONFIG".to_owned(), Value::Object(config.as_json().clone()));
    insert_facts(&mut metadata, facts);
    metadata.sort_keys();
    Node {
        id: facts.id.clone(),
        metadata,
        locality,
        labels,
        annotations,
        instance_ips: ips,
    }
}

/// `ISTIO_META_X` becomes `X`; the fields of each `ISTIO_METAJSON_*` object are laid over.
fn environment_metadata(env: &Environment, config: &ProxyConfig) -> Map<String, Value> {
    let mut metadata = Map::new();
    let from_config = config.metadata();
    for (name, value) in from_config.iter().chain(env) {
        if let Some(key) = name.strip_prefix("ISTIO_META_") {
            metadata.insert(key.to_owned(), value.as_str().into());
        }
    }
    for (name, value) in env {
        if name.starts_with("ISTIO_METAJSON_") {
            match serde_json::from_str::<Map<String, Value>>(value) {
                Ok(fields) => metadata.extend(fields),
                Err(error) => tracing::warn!(%name, %error, "not a JSON object, ignored"),
            }
        }
    }
    if let Some(address) = env.get("DNS_PROXY_ADDR").filter(|v| !v.is_empty()) {
        metadata.insert("DNS_PROXY_ADDR".to_owned(), address.as_str().into());
    }
    metadata
}

fn json_map(text: Option<&String>) -> BTreeMap<String, String> {
    text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default()
}

fn insert_facts(metadata: &mut Map<String, Value>, facts: &Facts) {
    let mut put = |key: &str, value: Value| metadata.insert(key.to_owned(), value);
    put("ENVOY_STATUS_PORT", facts.envoy_status_port.into());
    put("ENVOY_PROMETHEUS_PORT", facts.envoy_prometheus_port.into());
    for (key, port) in [
        ("ENVOY_SECURE_METRICS_PORT", facts.secure_metrics_port),
        ("ENVOY_SECURE_MERGED_METRICS_PORT", facts.secure_merged_metrics_port),
    ] {
        if port != 0 {
            put(key, port.into());
        }
    }
    for (key, set) in [
        ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", facts.exit_on_zero_connections),
        ("ENVOY_SKIP_DEPRECATED_LOGS", facts.skip_deprecated_logs),
    ] {
        if set {
            put(key, "true".into());
        }
    }
    for (key, text) in [
        ("OUTLIER_LOG_PATH", &facts.outlier_log_path),
        ("WORKLOAD_IDENTITY_SOCKET_FILE", &facts.sds_socket),
    ] {
        if !text.is_empty() {
            put(key, text.as_str().into());
        }
    }
    if !facts.pilot_san.is_empty() {
        put("PILOT_SAN", json!(facts.pilot_san));
    }
    let hbone = metadata.get("ENABLE_HBONE").and_then(Value::as_str) == Some("true");
    let discovery = facts.metadata_discovery.unwrap_or(hbone);
    metadata.insert("METADATA_DISCOVERY".to_owned(), discovery.to_string().into());
}

/// The label `istio-locality` (dots or slashes), which is also normalised to slashes.
fn locality(labels: &mut BTreeMap<String, String>) -> Locality {
    const LABEL: &str = "istio-locality";
    let text = labels.get(LABEL).cloned().unwrap_or_default();
    if text.is_empty() {
        return Locality::default();
    }
    let text = if text.contains('/') {
        text
    } else {
        text.replace('.', "/")
    };
    labels.insert(LABEL.to_owned(), text.clone());
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality {
        region: next(),
        zone: next(),
        sub_zone: next(),
    }
}
