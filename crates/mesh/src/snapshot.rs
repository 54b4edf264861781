//! What the mesh is at one moment: immutable, shared, ordered.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::{extensions, networking, security, telemetry};

use crate::key::ServiceKey;
use crate::object::{Config, Namespace, Node, Pod, Secret};
use crate::service::{Endpoints, Service};
use crate::shelf::Shelf;

/// Everything that translation may read. Cloning costs a few pointers; a change copies the lists of what it touches, never
/// what is in them.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Mesh configuration.
    pub mesh: Arc<MeshConfig>,
    /// Identity of this cluster.
    pub cluster: Arc<str>,
    /// DNS suffix of the cluster's services.
    pub domain: Arc<str>,
    pub(crate) services: Arc<BTreeMap<ServiceKey, Arc<Service>>>,
    pub(crate) ordered: Arc<Vec<Arc<Service>>>,
    pub(crate) by_namespace: Arc<BTreeMap<Arc<str>, Vec<Arc<Service>>>>,
    /// By namespace and host.
    pub(crate) endpoints: Shelf<Endpoints>,
    /// Per address, how many of Kubernetes' services without an address of their own have an endpoint there.
    pub(crate) headless: Arc<BTreeMap<IpAddr, usize>>,
    pub(crate) namespaces: Arc<BTreeMap<Arc<str>, Arc<Namespace>>>,
    pub(crate) nodes: Arc<BTreeMap<Arc<str>, Arc<Node>>>,
    pub(crate) pods: Shelf<Pod>,
    pub(crate) secrets: Secrets,
    /// VirtualServices.
    pub virtual_services: Shelf<Config<networking::VirtualService>>,
    /// DestinationRules.
    pub destination_rules: Shelf<Config<networking::DestinationRule>>,
    /// Gateways.
    pub gateways: Shelf<Config<networking::Gateway>>,
    /// ServiceEntries.
    pub service_entries: Shelf<Config<networking::ServiceEntry>>,
    /// WorkloadEntries.
    pub workload_entries: Shelf<Config<networking::WorkloadEntry>>,
    /// Sidecars.
    pub sidecars: Shelf<Config<networking::Sidecar>>,
    /// EnvoyFilters.
    pub envoy_filters: Shelf<Config<networking::EnvoyFilter>>,
    /// ProxyConfigs.
    pub proxy_configs: Shelf<Config<networking::ProxyConfig>>,
    /// PeerAuthentications.
    pub peer_authentications: Shelf<Config<security::PeerAuthentication>>,
    /// RequestAuthentications.
    pub request_authentications: Shelf<Config<security::RequestAuthentication>>,
    /// AuthorizationPolicies.
    pub authorization_policies: Shelf<Config<security::AuthorizationPolicy>>,
    /// Telemetries.
    pub telemetries: Shelf<Config<telemetry::Telemetry>>,
    /// WasmPlugins.
    pub wasm_plugins: Shelf<Config<extensions::WasmPlugin>>,
}

impl Snapshot {
    /// All services, older first.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.ordered
    }

    /// Services that objects of a namespace define, older first.
    pub fn services_of_namespace(&self, namespace: &str) -> &[Arc<Service>] {
        self.by_namespace.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a Kubernetes service without an address of its own has an endpoint there.
    pub fn is_headless_endpoint(&self, address: IpAddr) -> bool {
        self.headless.contains_key(&address)
    }

    /// The service of that key.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// All services of that host, in namespace order.
    pub fn services_of_host<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Arc<Service>> + 'a {
        let first = ServiceKey::new(host, "");
        self.services
            .range(first..)
            .take_while(move |(key, _)| &*key.host == host)
            .map(|(_, service)| service)
    }

    /// Endpoints of a service; none for an unknown service.
    pub fn endpoints(&self, key: &ServiceKey) -> Arc<Endpoints> {
        self.endpoints
            .get(&key.namespace, &key.host)
            .cloned()
            .unwrap_or_default()
    }

    /// The namespace of that name.
    pub fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.get(name)
    }

    /// All namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values()
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(name)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The pod of that name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(namespace, name)
    }

    /// A secret, for a reader who may have it.
    pub fn secret(&self, reader: &SecretReader, namespace: &str, name: &str) -> Option<&Arc<Secret>> {
        if *reader.namespace == *namespace {
            self.secrets.0.get(namespace, name)
        } else {
            None
        }
    }
}

/// Secrets, out of reach without a [`SecretReader`].
#[derive(Clone, Default)]
pub(crate) struct Secrets(pub(crate) Shelf<Secret>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// Permission to read the secrets of one namespace: that of an authenticated proxy, whose service account the API
/// server allows to read secrets there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretReader {
    namespace: Arc<str>,
}

impl SecretReader {
    /// Permission for a namespace. The caller has checked identity and access.
    pub fn of_verified_namespace(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}
