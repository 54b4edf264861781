//! Proxies, and the classes into which they fall: everything that translation may read of one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use mesh::{Locality, SecretReader, Snapshot};
use xds::envoy::config::core::v3 as core;
use xds::google::protobuf::{Value, value};

use crate::envoy_filter::{PatchId, ProxyPatches};
use crate::settings::Settings;

/// Most bytes of a node id that are read.
const MAX_NODE_ID: usize = 1024;
/// Envoy's minor version is this far ahead of that of the Istio release that comes with it.
const ENVOY_AHEAD: u32 = 8;

/// Why a node message names no proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The id has not the form that agents send.
    #[error("node id {0:?} is not <type>~<ip>~<pod>.<namespace>~<domain>; the client is no Istio agent")]
    Id(String),
    /// The type is none that this control plane serves.
    #[error("proxy type {0:?} is not served; sidecar and router are")]
    Role(String),
}

/// What a proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Beside a workload.
    Sidecar,
    /// At the edge.
    Router,
}

/// Which extensions a proxy's Envoy has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flavour {
    /// Envoy as its own project publishes it.
    #[default]
    Stock,
    /// With Istio's extensions (Istio's image, or Envoy's contrib image).
    Contrib,
}

/// How traffic reaches a sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interception {
    /// Redirected; the source address is the proxy's.
    #[default]
    Redirect,
    /// Redirected; the source address is kept.
    Tproxy,
    /// Not redirected.
    None,
}

/// A connected proxy: its node message, read.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// What it is for.
    pub role: Role,
    /// `<pod>.<namespace>`.
    pub id: String,
    /// Name of its pod.
    pub pod: Arc<str>,
    /// Namespace it is configured in.
    pub namespace: Arc<str>,
    /// Service account it says it runs as.
    pub service_account: Option<Arc<str>>,
    /// Addresses, the first one first.
    pub addresses: Vec<IpAddr>,
    /// Labels of its pod.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Where it says it runs.
    pub locality: Locality,
    /// Version of its agent.
    pub version: String,
    /// Major and minor number of its Envoy's version, if it says so.
    pub envoy: Option<(u32, u32)>,
    /// Cluster it is in.
    pub cluster: Arc<str>,
    /// Network it is in.
    pub network: Arc<str>,
    /// Name under which its spans are found.
    pub service: String,
    /// Texts among its metadata: EnvoyFilters may ask for any.
    texts: BTreeMap<String, String>,
    /// Keys of its metadata that say "true" otherwise than by a text.
    flags: BTreeSet<String>,
    interception: Interception,
    /// What its own configuration says, if it has one.
    settings: Option<Settings>,
    /// Which extensions its Envoy has.
    pub flavour: Flavour,
    /// Permission to read secrets; none until the caller, who has checked identity and access, gives it.
    pub secrets: Option<SecretReader>,
}

impl Proxy {
    /// Reads a node message.
    ///
    /// # Errors
    /// The id has not the agent's form, or the proxy's type is not served.
    pub fn of_node(node: &core::Node) -> Result<Self, NodeError> {
        let shown = || NodeError::Id(node.id.chars().take(80).collect());
        if node.id.len() > MAX_NODE_ID {
            return Err(shown());
        }
        let parts: Vec<&str> = node.id.split('~').collect();
        let [role, address, id, domain] = parts[..] else {
            return Err(shown());
        };
        let role = match role {
            "sidecar" => Role::Sidecar,
            "router" => Role::Router,
            other => return Err(NodeError::Role(other.chars().take(40).collect())),
        };
        let nothing = BTreeMap::new();
        let metadata = node.metadata.as_ref().map_or(&nothing, |m| &m.fields);
        let text = |key: &str| text_of(metadata, key);
        let namespace = text("NAMESPACE")
            .or_else(|| domain.split('.').next())
            .unwrap_or_default();
        let mut addresses: Vec<IpAddr> = text("INSTANCE_IPS")
            .into_iter()
            .flat_map(|t| t.split(','))
            .filter_map(|ip| ip.trim().parse().ok())
            .collect();
        if addresses.is_empty() {
            addresses.extend(address.parse::<IpAddr>());
        }
        let labels = match metadata.get("LABELS").and_then(|v| v.kind.as_ref()) {
            Some(value::Kind::StructValue(fields)) => fields
                .fields
                .iter()
                .filter_map(|(key, value)| match &value.kind {
                    Some(value::Kind::StringValue(text)) => Some((key.clone(), text.clone())),
                    _ => None,
                })
                .collect(),
            _ => BTreeMap::new(),
        };
        let locality = node.locality.clone().unwrap_or_default();
        Ok(Self {
            role,
            id: id.to_owned(),
            // Names of pods may have dots, names of namespaces have none.
            pod: id.rsplit_once('.').map_or(id, |(pod, _)| pod).into(),
            namespace: namespace.into(),
            service_account: text("SERVICE_ACCOUNT").map(Into::into),
            addresses,
            labels: Arc::new(labels),
            locality: Locality {
                region: locality.region,
                zone: locality.zone,
                subzone: locality.sub_zone,
            },
            version: text("ISTIO_VERSION").unwrap_or_default().to_owned(),
            envoy: envoy_of_node(node),
            cluster: text("CLUSTER_ID").unwrap_or(api::names::CLUSTER_ID).into(),
            network: text("NETWORK").unwrap_or_default().into(),
            service: node.cluster.clone(),
            flavour: if text("ENVOY_FLAVOUR") == Some("contrib") {
                Flavour::Contrib
            } else {
                Flavour::Stock
            },
            texts: metadata
                .keys()
                .filter_map(|key| Some((key.clone(), text(key)?.to_owned())))
                .collect(),
            flags: metadata
                .iter()
                .filter(|(_, value)| value.kind == Some(value::Kind::BoolValue(true)))
                .map(|(key, _)| key.clone())
                .collect(),
            interception: interception(metadata),
            settings: metadata.get("PROXY_CONFIG").map(Settings::of_node),
            secrets: None,
        })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    fn flag(&self, key: &str) -> bool {
        self.flags.contains(key) || matches!(self.text(key), Some("true" | "1" | "TRUE" | "True"))
    }

    /// The class that the proxy falls into, as the mesh is now.
    pub fn class(&self, snapshot: &Snapshot) -> ProxyClass {
        self.class_under(snapshot, &ProxyPatches::of(snapshot))
    }

    /// The same, with what EnvoyFilters ask of proxies already read.
    pub(crate) fn class_under(&self, snapshot: &Snapshot, patches: &ProxyPatches) -> ProxyClass {
        let pod = snapshot.pod(&self.namespace, &self.pod);
        let is_entry = pod.is_none() && self.is_named_by_an_entry(snapshot);
        // A node's labels are more certain than what a proxy says of itself.
        let node_locality = pod
            .and_then(|p| p.node.as_ref())
            .and_then(|n| snapshot.node(n))
            .map(|n| Locality::of_node(&n.meta.labels))
            .filter(|l| *l != Locality::default());
        let labels = pod.map_or_else(|| self.labels.clone(), |p| Arc::new(p.meta.labels.clone()));
        let named_ports = pod
            .map(|p| {
                p.ports
                    .iter()
                    .filter(|c| !c.name.is_empty())
                    .map(|c| (c.name.clone(), c.port))
                    .collect()
            })
            .unwrap_or_default();
        ProxyClass {
            role: self.role,
            namespace: self.namespace.clone(),
            workload_labels: labels.clone(),
            named_ports,
            locality: node_locality.unwrap_or_else(|| self.locality.clone()),
            cluster: self.cluster.clone(),
            network: self.network.clone(),
            node: pod.and_then(|p| p.node.clone()),
            interception: self.interception,
            flavour: self.flavour,
            ipv4: self.addresses.is_empty() || self.addresses.iter().any(IpAddr::is_ipv4),
            ipv6: self.addresses.iter().any(IpAddr::is_ipv6),
            dns_capture: self.flag("DNS_CAPTURE"),
            http10: self.flag("HTTP10"),
            unprivileged: self.flag("UNPRIVILEGED_POD"),
            balance_inbound: self.flag("INBOUND_LISTENER_EXACT_BALANCE"),
            balance_outbound: self.flag("OUTBOUND_LISTENER_EXACT_BALANCE"),
            idle_timeout: self.text("IDLE_TIMEOUT").map(str::to_owned),
            service: self.service.clone(),
            envoy: self.envoy.unwrap_or_else(|| envoy_of_release(&self.version)),
            mesh_id: self.text("MESH_ID").unwrap_or("unknown").to_owned(),
            slice_targets: address_targets(snapshot, self, is_entry),
            is_entry,
            patches: patches.of_proxy(&snapshot.mesh.root_namespace, &self.namespace, &self.version, &|key| {
                self.text(key)
            }),
            settings: match &self.settings {
                Some(own) => own.clone(),
                None => Settings::of_mesh(&snapshot.mesh.default_config),
            },
            ingress_address: self.ingress_address(snapshot, &labels),
            headless_addresses: self
                .addresses
                .iter()
                .copied()
                .filter(|a| snapshot.is_headless_endpoint(*a))
                .collect(),
            secrets: self.secrets.clone(),
        }
    }

    /// The first address, if a Sidecar says what arrives: its listeners are named after it.
    fn ingress_address(&self, snapshot: &Snapshot, labels: &BTreeMap<String, String>) -> Option<IpAddr> {
        let sidecar = crate::sidecar::of_workload(
            &snapshot.sidecars,
            &snapshot.mesh.root_namespace,
            &self.namespace,
            labels,
        )?;
        let listens = self.role == Role::Sidecar && !sidecar.spec.ingress.is_empty();
        self.addresses.first().copied().filter(|_| listens)
    }

    fn is_named_by_an_entry(&self, snapshot: &Snapshot) -> bool {
        let entries = snapshot.workload_entries.in_namespace(&self.namespace);
        entries
            .filter_map(|e| e.spec.address.parse::<IpAddr>().ok())
            .any(|ip| self.addresses.first() == Some(&ip))
    }
}

/// A text of that key; none if it is empty.
fn text_of<'a>(fields: &'a BTreeMap<String, Value>, key: &str) -> Option<&'a str> {
    match fields.get(key).and_then(|v| v.kind.as_ref()) {
        Some(value::Kind::StringValue(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn interception(metadata: &BTreeMap<String, Value>) -> Interception {
    let configured = match metadata.get("PROXY_CONFIG").and_then(|v| v.kind.as_ref()) {
        Some(value::Kind::StructValue(config)) => text_of(&config.fields, "interceptionMode"),
        _ => None,
    };
    match text_of(metadata, "INTERCEPTION_MODE").or(configured) {
        Some("NONE") => Interception::None,
        Some("TPROXY") => Interception::Tproxy,
        _ => Interception::Redirect,
    }
}

/// Everything that translation may read of a proxy. Proxies of one class get the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyClass {
    /// What it is for.
    pub role: Role,
    /// Namespace it is configured in.
    pub namespace: Arc<str>,
    /// Labels of its workload.
    pub workload_labels: Arc<BTreeMap<String, String>>,
    /// Named ports of its pod.
    pub named_ports: BTreeMap<String, u16>,
    /// Where it runs.
    pub locality: Locality,
    /// Cluster it is in.
    pub cluster: Arc<str>,
    /// Network it is in.
    pub network: Arc<str>,
    /// Node it runs on.
    pub node: Option<Arc<str>>,
    /// How traffic reaches it.
    pub interception: Interception,
    /// Which extensions its Envoy has.
    pub flavour: Flavour,
    /// Whether it has an IPv4 address.
    pub ipv4: bool,
    /// Whether it has an IPv6 address.
    pub ipv6: bool,
    /// Whether its agent resolves names.
    pub dns_capture: bool,
    /// Whether HTTP/1.0 is accepted.
    pub http10: bool,
    /// Whether it cannot listen on privileged ports.
    pub unprivileged: bool,
    /// Whether inbound connections are spread evenly over threads.
    pub balance_inbound: bool,
    /// Whether outbound connections are spread evenly over threads.
    pub balance_outbound: bool,
    /// Idle time of connections that it asks for.
    pub idle_timeout: Option<String>,
    /// Name under which its spans are found.
    pub service: String,
    /// Version of its Envoy, major and minor; the newest if it is unknown.
    pub envoy: (u32, u32),
    /// Name of its mesh.
    pub mesh_id: String,
    /// Services that it is known to serve by its address and not by its labels (slices of services without a selector,
    /// and WorkloadEntries): host, namespace, service port and own port.
    pub slice_targets: BTreeSet<(Arc<str>, Arc<str>, String, u16)>,
    /// Whether it is known by its address alone: a WorkloadEntry names it, and no pod.
    pub is_entry: bool,
    /// Patches that are for certain proxies, and for this one.
    pub patches: BTreeSet<PatchId>,
    /// What its own configuration says about headers and about what is in front of it.
    pub settings: Settings,
    /// Its address, where a Sidecar says what arrives at it.
    pub ingress_address: Option<IpAddr>,
    /// Its addresses, where they are endpoints of headless services: it needs no listener for itself.
    pub headless_addresses: BTreeSet<IpAddr>,
    /// Permission to read secrets.
    pub secrets: Option<SecretReader>,
}

impl ProxyClass {
    /// Whether it is a sidecar.
    pub fn is_sidecar(&self) -> bool {
        self.role == Role::Sidecar
    }

    /// The address that means "all of mine".
    pub fn wildcard(&self) -> &'static str {
        if self.ipv4 { "0.0.0.0" } else { "::" }
    }

    /// The loopback address.
    pub fn localhost(&self) -> &'static str {
        if self.ipv4 { "127.0.0.1" } else { "::1" }
    }

    /// The address that traffic to the workload comes from.
    pub fn passthrough_source(&self) -> &'static str {
        if self.ipv4 { "127.0.0.6" } else { "::6" }
    }
}

/// Version of the Envoy that one of Istio's releases comes with, for proxies that do not say it. What is none of Istio's
/// has what the newest has.
fn envoy_of_release(version: &str) -> (u32, u32) {
    let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(1), Some(minor)) => (1, minor.saturating_add(ENVOY_AHEAD)),
        _ => (u32::MAX, 0),
    }
}

/// Of a node message, what the proxy itself says of its version: agents are versioned apart from it.
fn envoy_of_node(node: &core::Node) -> Option<(u32, u32)> {
    match node.user_agent_version_type.as_ref()? {
        core::node::UserAgentVersionType::UserAgentBuildVersion(build) => build
            .version
            .as_ref()
            .map(|version| (version.major_number, version.minor_number)),
        core::node::UserAgentVersionType::UserAgentVersion(_) => None,
    }
}

fn address_targets(snapshot: &Snapshot, proxy: &Proxy, is_entry: bool) -> BTreeSet<(Arc<str>, Arc<str>, String, u16)> {
    let mut targets = BTreeSet::new();
    for service in snapshot.services_of_namespace(&proxy.namespace) {
        let by_slices = service.selector.is_empty() && service.registry == mesh::Registry::Kubernetes;
        if !is_entry && !by_slices {
            continue;
        }
        for endpoint in &snapshot.endpoints(&service.key).list {
            if matches!(&endpoint.address, mesh::Address::Ip(ip) if proxy.addresses.contains(ip)) {
                targets.insert((
                    service.key.host.clone(),
                    service.key.namespace.clone(),
                    endpoint.service_port.to_string(),
                    endpoint.port,
                ));
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_may_have_dots_in_its_name() {
        let check = |id: &str, expected| {
            let id = format!("sidecar~10.0.0.1~{id}~shop.svc.cluster.local");
            let node = core::Node {
                id,
                ..Default::default()
            };
            assert_eq!(
                Proxy::of_node(&node).ok().map(|p| p.pod.to_string()).as_deref(),
                Some(expected)
            );
        };
        check("catalog-0.shop", "catalog-0");
        check("static-node.example.com.shop", "static-node.example.com");
        check("alone", "alone");
    }

    #[test]
    fn a_version_of_envoy_follows_from_istios() {
        let check = |text, expected| assert_eq!(envoy_of_release(text), expected, "{text}");
        check("1.28.3", (1, 36));
        check("1.30-alpha.abc", (1, 38));
        check("0.2.0", (u32::MAX, 0));
        check("", (u32::MAX, 0));
    }
}
