//! Services as the mesh knows them, whatever defines them, and their endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::key::ServiceKey;
use crate::object::TargetPort;
use crate::protocol::Protocol;
use crate::visibility::Visibility;

/// How clients find the endpoints of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// The proxy chooses among known endpoints.
    Endpoints,
    /// Connections go where the client sent them (headless services, ServiceEntry NONE).
    Passthrough,
    /// Names, all of whose addresses are used.
    Dns,
    /// Names, the first address of which is used.
    DnsRoundRobin,
    /// Another name for a service (ExternalName).
    Alias,
    /// Names that are resolved when a request arrives (wildcard hosts).
    DynamicDns,
}

/// What defines a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Registry {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry.
    External,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name; empty if it has none.
    pub name: String,
    /// Number.
    pub number: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it leads.
    pub target: TargetPort,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Host and namespace.
    pub key: ServiceKey,
    /// Name of the defining object; the host for a ServiceEntry.
    pub name: Arc<str>,
    /// What defines it.
    pub registry: Registry,
    /// When the defining object was created: older services win conflicts.
    pub created: Option<Timestamp>,
    /// Labels of the defining object.
    pub labels: BTreeMap<String, String>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Addresses or ranges that clients use; empty if it has none of its own.
    pub addresses: Vec<String>,
    /// How clients find its endpoints.
    pub resolution: Resolution,
    /// Whether it is outside the mesh: no mutual TLS by itself.
    pub external: bool,
    /// Whether it is a Kubernetes Service without cluster address.
    pub headless: bool,
    /// Who sees it.
    pub visibility: Visibility,
    /// The name it stands for.
    pub alias_of: Option<Arc<str>>,
    /// Labels of its workloads.
    pub selector: BTreeMap<String, String>,
    /// Names its certificates may have beside those of its endpoints' identities.
    pub subject_alt_names: Vec<String>,
    /// Whether only endpoints of the client's node are used.
    pub node_local: bool,
    /// Preference of localities.
    pub traffic_distribution: Option<String>,
    /// Addresses outside the cluster.
    pub external_addresses: Vec<String>,
}

impl Service {
    /// The port of that number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Order of services: older first, then by name and namespace.
    pub fn age_order(&self, other: &Self) -> std::cmp::Ordering {
        self.created
            .cmp(&other.created)
            .then_with(|| self.name.cmp(&other.name))
            .then_with(|| self.key.namespace.cmp(&other.key.namespace))
            .then_with(|| self.key.host.cmp(&other.key.host))
    }
}

/// Health of an endpoint, as the registry sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Nobody says; it takes traffic.
    Unknown,
    /// Takes traffic.
    Healthy,
    /// Takes none, unless too few are healthy.
    Unhealthy,
    /// Takes no new sessions.
    Draining,
    /// Ends: it takes no traffic, but is not gone.
    Terminating,
}

/// Where a workload runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Part of the zone.
    pub subzone: String,
}

impl Locality {
    /// Reads `region/zone/subzone`; a label writes dots instead of slashes.
    pub fn parse(text: &str) -> Self {
        let separator = if text.contains('/') { '/' } else { '.' };
        let mut parts = text.splitn(3, separator).map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self {
            region: next(),
            zone: next(),
            subzone: next(),
        }
    }

    /// Where a node is, by its labels.
    pub fn of_node(labels: &BTreeMap<String, String>) -> Self {
        use api::names::label;
        let get = |keys: &[&str]| {
            keys.iter()
                .find_map(|key| labels.get(*key))
                .cloned()
                .unwrap_or_default()
        };
        Self {
            region: get(&[label::REGION, label::REGION_BETA]),
            zone: get(&[label::ZONE, label::ZONE_BETA]),
            subzone: get(&[label::SUBZONE]),
        }
    }
}

/// What an endpoint's workload is, shared by its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Name of the workload.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Service account; empty if unknown.
    pub service_account: Arc<str>,
    /// Where it runs.
    pub locality: Locality,
    /// Network it is in.
    pub network: Arc<str>,
    /// Node it runs on.
    pub node: Option<Arc<str>>,
    /// Cluster it is in.
    pub cluster: Arc<str>,
    /// Host name and subdomain of a pod, for names of headless services.
    pub hostname: Option<Arc<str>>,
    /// Whether it accepts mutual TLS.
    pub mutual_tls: bool,
}

impl Workload {
    /// Name under which telemetry groups it.
    pub fn canonical_name(&self) -> &str {
        use api::names::label;
        [label::CANONICAL_NAME, label::APP_NAME, label::APP]
            .into_iter()
            .find_map(|key| self.labels.get(key))
            .map_or(&*self.name, String::as_str)
    }

    /// Revision under which telemetry groups it; `latest` if it has none.
    pub fn canonical_revision(&self) -> &str {
        use api::names::label;
        [label::CANONICAL_REVISION, label::APP_VERSION, label::VERSION]
            .into_iter()
            .find_map(|key| self.labels.get(key))
            .map_or("latest", String::as_str)
    }
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An address.
    Ip(IpAddr),
    /// A name.
    Name(String),
    /// A Unix socket.
    Socket(String),
}

/// One port of one workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Name of the service's port.
    pub service_port: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// Port it listens on.
    pub port: u16,
    /// Its health.
    pub health: Health,
    /// Its share of traffic; 0 means 1.
    pub weight: u32,
    /// The workload behind it.
    pub workload: Arc<Workload>,
}

/// The endpoints of a service, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// All of them, sorted.
    pub list: Vec<Endpoint>,
    /// Namespace and service account of those that have one.
    pub identities: BTreeSet<(Arc<str>, Arc<str>)>,
}

impl Endpoints {
    /// Sorts the endpoints and gathers their identities.
    pub fn new(mut list: Vec<Endpoint>) -> Self {
        list.sort();
        list.dedup();
        let identities = list
            .iter()
            .map(|e| &e.workload)
            .filter(|w| !w.service_account.is_empty())
            .map(|w| (w.namespace.clone(), w.service_account.clone()))
            .collect();
        Self { list, identities }
    }
}
