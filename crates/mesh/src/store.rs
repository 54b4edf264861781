//! Takes events, keeps objects and the indexes between them, and derives anew what an event touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::names;

use crate::derive;
use crate::headless;
use crate::key::{Input, Key, Kind, ServiceKey};
use crate::object::{self, EndpointSlice, Object};
use crate::service::Service;
use crate::shelf::Shelf;
use crate::snapshot::{Secrets, Snapshot};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// An object appeared or changed.
    Apply(Object),
    /// An object is gone.
    Delete(Key),
    /// The mesh configuration changed.
    MeshConfig(Arc<MeshConfig>),
}

/// What a batch of events led to.
#[derive(Clone, Debug)]
pub struct Update {
    /// The mesh after it.
    pub snapshot: Arc<Snapshot>,
    /// What differs from before.
    pub changed: BTreeSet<Input>,
}

type Name = (Arc<str>, Arc<str>);

/// What is stored: the snapshot in the making, the objects that are not part of it, and indexes.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) snapshot: Snapshot,
    pub(crate) services: Shelf<object::Service>,
    slices: Shelf<EndpointSlice>,
    slices_by_service: BTreeMap<Name, BTreeSet<Arc<str>>>,
    services_by_pod: BTreeMap<Name, BTreeMap<Name, usize>>,
    entries_by_host: BTreeMap<ServiceKey, BTreeSet<Arc<str>>>,
}

impl Stored {
    pub(crate) fn slices_of<'a>(
        &'a self,
        namespace: &str,
        service: &str,
    ) -> impl Iterator<Item = &'a Arc<EndpointSlice>> {
        let key = (Arc::from(namespace), Arc::from(service));
        let names = self.slices_by_service.get(&key);
        names
            .into_iter()
            .flatten()
            .filter_map(move |name| self.slices.get(&key.0, name))
    }

    pub(crate) fn entries_of_host(&self, key: &ServiceKey) -> impl Iterator<Item = &Arc<str>> {
        self.entries_by_host.get(key).into_iter().flatten()
    }
}

/// The mesh, fed by events.
#[derive(Debug)]
pub struct Mesh {
    stored: Stored,
}

impl Default for Mesh {
    fn default() -> Self {
        Self::new(names::CLUSTER_ID, names::CLUSTER_DOMAIN)
    }
}

impl Mesh {
    /// An empty mesh of a cluster: its id, and the DNS suffix of its services.
    pub fn new(cluster: &str, domain: &str) -> Self {
        let snapshot = Snapshot {
            mesh: Arc::default(),
            cluster: cluster.into(),
            domain: domain.into(),
            services: Arc::default(),
            ordered: Arc::default(),
            by_namespace: Arc::default(),
            endpoints: Shelf::default(),
            headless: Arc::default(),
            namespaces: Arc::default(),
            nodes: Arc::default(),
            pods: Shelf::default(),
            secrets: Secrets::default(),
            virtual_services: Shelf::default(),
            destination_rules: Shelf::default(),
            gateways: Shelf::default(),
            service_entries: Shelf::default(),
            workload_entries: Shelf::default(),
            sidecars: Shelf::default(),
            envoy_filters: Shelf::default(),
            proxy_configs: Shelf::default(),
            peer_authentications: Shelf::default(),
            request_authentications: Shelf::default(),
            authorization_policies: Shelf::default(),
            telemetries: Shelf::default(),
            wasm_plugins: Shelf::default(),
        };
        Self {
            stored: Stored {
                snapshot,
                services: Shelf::default(),
                slices: Shelf::default(),
                slices_by_service: BTreeMap::new(),
                services_by_pod: BTreeMap::new(),
                entries_by_host: BTreeMap::new(),
            },
        }
    }

    /// The mesh as it is.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.stored.snapshot.clone())
    }

    /// Takes a batch of events, in order.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Update {
        let mut pass = Pass {
            stored: &mut self.stored,
            changed: BTreeSet::new(),
            dirty: BTreeSet::new(),
        };
        for event in events {
            match event {
                Event::Apply(object) => pass.apply(object),
                Event::Delete(key) => pass.delete(&key),
                Event::MeshConfig(config) => pass.mesh_config(config),
            }
        }
        pass.derive();
        let changed = pass.changed;
        Update {
            snapshot: self.snapshot(),
            changed,
        }
    }
}

/// One batch on its way through.
struct Pass<'a> {
    stored: &'a mut Stored,
    changed: BTreeSet<Input>,
    dirty: BTreeSet<ServiceKey>,
}

/// Replaces an object on a shelf; runs the tail only if it differs.
macro_rules! replace {
    ($pass:expr, $kind:expr, $shelf:expr, $object:expr) => {{
        let (namespace, name) = ($object.meta.namespace.clone(), $object.meta.name.clone());
        let old = $shelf.insert(namespace.clone(), name, $object.clone());
        if old.as_ref() != Some(&$object) {
            $pass.note($kind, &namespace);
        }
        old
    }};
}

impl Pass<'_> {
    fn note(&mut self, kind: Kind, namespace: &Arc<str>) {
        self.changed.insert(Input::Kind(kind));
        self.changed.insert(Input::InNamespace(kind, namespace.clone()));
    }

    fn mesh_config(&mut self, config: Arc<MeshConfig>) {
        if self.stored.snapshot.mesh != config {
            self.stored.snapshot.mesh = config;
            self.changed.insert(Input::Mesh);
            self.all_dirty();
        }
    }

    fn all_dirty(&mut self) {
        let keys: Vec<ServiceKey> = self.stored.services.iter().map(|s| self.key_of(s)).collect();
        self.dirty.extend(keys);
        self.dirty.extend(self.stored.entries_by_host.keys().cloned());
        self.dirty.extend(self.stored.snapshot.services.keys().cloned());
    }

    fn key_of(&self, service: &object::Service) -> ServiceKey {
        let meta = &service.meta;
        let host = derive::host_of(&meta.name, &meta.namespace, &self.stored.snapshot.domain);
        ServiceKey {
            host: host.into(),
            namespace: meta.namespace.clone(),
        }
    }

    fn apply(&mut self, object: Object) {
        match object {
            Object::Namespace(o) => {
                let name = o.meta.name.clone();
                let old = Arc::make_mut(&mut self.stored.snapshot.namespaces).insert(name.clone(), o.clone());
                if old.as_ref() != Some(&o) {
                    self.note(Kind::Namespace, &name);
                    self.namespace_changed(&name, old.map(|o| o.meta.labels.clone()).unwrap_or_default());
                }
            }
            Object::Node(o) => {
                let name = o.meta.name.clone();
                let old = Arc::make_mut(&mut self.stored.snapshot.nodes).insert(name.clone(), o.clone());
                if old.is_none_or(|old| old.meta.labels != o.meta.labels) {
                    self.note(Kind::Node, &Arc::default());
                    self.node_changed(&name);
                }
            }
            Object::Pod(o) => {
                let old = replace!(self, Kind::Pod, self.stored.snapshot.pods, o);
                if old.as_ref() != Some(&o) {
                    self.pod_changed(&o.meta.namespace, &o.meta.name);
                }
            }
            Object::Service(o) => {
                let old = self
                    .stored
                    .services
                    .insert(o.meta.namespace.clone(), o.meta.name.clone(), o.clone());
                if old.as_ref() != Some(&o) {
                    let key = self.key_of(&o);
                    self.dirty.insert(key);
                }
            }
            Object::EndpointSlice(o) => {
                let old = self
                    .stored
                    .slices
                    .insert(o.meta.namespace.clone(), o.meta.name.clone(), o.clone());
                if old.as_ref() != Some(&o) {
                    if let Some(old) = old {
                        self.forget_slice(&old);
                    }
                    self.index_slice(&o);
                }
            }
            Object::Secret(o) => {
                let (namespace, name) = (o.meta.namespace.clone(), o.meta.name.clone());
                let old = self
                    .stored
                    .snapshot
                    .secrets
                    .0
                    .insert(namespace.clone(), name.clone(), o.clone());
                if old.as_ref() != Some(&o) {
                    self.changed.insert(Input::Secret(namespace, name));
                }
            }
            Object::ConfigMap(_) => {}
            Object::ServiceEntry(o) => {
                let old = replace!(self, Kind::ServiceEntry, self.stored.snapshot.service_entries, o);
                if old.as_ref() != Some(&o) {
                    if let Some(old) = old {
                        self.forget_entry(&old);
                    }
                    for host in &o.spec.hosts {
                        let key = ServiceKey::new(host, &o.meta.namespace);
                        self.stored
                            .entries_by_host
                            .entry(key.clone())
                            .or_default()
                            .insert(o.meta.name.clone());
                        self.dirty.insert(key);
                    }
                }
            }
            Object::WorkloadEntry(o) => {
                let old = replace!(self, Kind::WorkloadEntry, self.stored.snapshot.workload_entries, o);
                if old.as_ref() != Some(&o) {
                    self.selectors_dirty(&o.meta.namespace);
                }
            }
            Object::VirtualService(o) => {
                replace!(self, Kind::VirtualService, self.stored.snapshot.virtual_services, o);
            }
            Object::DestinationRule(o) => {
                replace!(self, Kind::DestinationRule, self.stored.snapshot.destination_rules, o);
            }
            Object::Gateway(o) => {
                replace!(self, Kind::Gateway, self.stored.snapshot.gateways, o);
            }
            Object::Sidecar(o) => {
                replace!(self, Kind::Sidecar, self.stored.snapshot.sidecars, o);
            }
            Object::EnvoyFilter(o) => {
                replace!(self, Kind::EnvoyFilter, self.stored.snapshot.envoy_filters, o);
            }
            Object::ProxyConfig(o) => {
                replace!(self, Kind::ProxyConfig, self.stored.snapshot.proxy_configs, o);
            }
            Object::PeerAuthentication(o) => {
                replace!(
                    self,
                    Kind::PeerAuthentication,
                    self.stored.snapshot.peer_authentications,
                    o
                );
            }
            Object::RequestAuthentication(o) => {
                replace!(
                    self,
                    Kind::RequestAuthentication,
                    self.stored.snapshot.request_authentications,
                    o
                );
            }
            Object::AuthorizationPolicy(o) => {
                replace!(
                    self,
                    Kind::AuthorizationPolicy,
                    self.stored.snapshot.authorization_policies,
                    o
                );
            }
            Object::Telemetry(o) => {
                replace!(self, Kind::Telemetry, self.stored.snapshot.telemetries, o);
            }
            Object::WasmPlugin(o) => {
                replace!(self, Kind::WasmPlugin, self.stored.snapshot.wasm_plugins, o);
            }
        }
    }

    fn delete(&mut self, key: &Key) {
        let (namespace, name) = (&key.namespace, &key.name);
        let snapshot = &mut self.stored.snapshot;
        let gone = match key.kind {
            Kind::Namespace => {
                let old = Arc::make_mut(&mut snapshot.namespaces).remove(name);
                if let Some(old) = old {
                    self.note(Kind::Namespace, name);
                    self.namespace_changed(name, old.meta.labels.clone());
                }
                return;
            }
            Kind::Node => {
                if Arc::make_mut(&mut snapshot.nodes).remove(name).is_some() {
                    self.note(Kind::Node, &Arc::default());
                    self.node_changed(name);
                }
                return;
            }
            Kind::Pod => {
                let gone = snapshot.pods.remove(namespace, name).is_some();
                if gone {
                    self.pod_changed(namespace, name);
                }
                gone
            }
            Kind::Service => {
                if let Some(old) = self.stored.services.remove(namespace, name) {
                    let key = self.key_of(&old);
                    self.dirty.insert(key);
                }
                return;
            }
            Kind::EndpointSlice => {
                if let Some(old) = self.stored.slices.remove(namespace, name) {
                    self.forget_slice(&old);
                }
                return;
            }
            Kind::Secret => {
                if snapshot.secrets.0.remove(namespace, name).is_some() {
                    self.changed.insert(Input::Secret(namespace.clone(), name.clone()));
                }
                return;
            }
            Kind::ConfigMap => return,
            Kind::ServiceEntry => {
                let old = snapshot.service_entries.remove(namespace, name);
                old.inspect(|old| self.forget_entry(old)).is_some()
            }
            Kind::WorkloadEntry => {
                let gone = snapshot.workload_entries.remove(namespace, name).is_some();
                if gone {
                    self.selectors_dirty(namespace);
                }
                gone
            }
            Kind::VirtualService => snapshot.virtual_services.remove(namespace, name).is_some(),
            Kind::DestinationRule => snapshot.destination_rules.remove(namespace, name).is_some(),
            Kind::Gateway => snapshot.gateways.remove(namespace, name).is_some(),
            Kind::Sidecar => snapshot.sidecars.remove(namespace, name).is_some(),
            Kind::EnvoyFilter => snapshot.envoy_filters.remove(namespace, name).is_some(),
            Kind::ProxyConfig => snapshot.proxy_configs.remove(namespace, name).is_some(),
            Kind::PeerAuthentication => snapshot.peer_authentications.remove(namespace, name).is_some(),
            Kind::RequestAuthentication => snapshot.request_authentications.remove(namespace, name).is_some(),
            Kind::AuthorizationPolicy => snapshot.authorization_policies.remove(namespace, name).is_some(),
            Kind::Telemetry => snapshot.telemetries.remove(namespace, name).is_some(),
            Kind::WasmPlugin => snapshot.wasm_plugins.remove(namespace, name).is_some(),
        };
        if gone {
            self.note(key.kind, namespace);
        }
    }

    fn service_key(&self, (namespace, name): &Name) -> ServiceKey {
        let host = derive::host_of(name, namespace, &self.stored.snapshot.domain);
        ServiceKey {
            host: host.into(),
            namespace: namespace.clone(),
        }
    }

    fn index_slice(&mut self, slice: &EndpointSlice) {
        let Some(service) = slice.service.clone() else { return };
        let owner = (slice.meta.namespace.clone(), service);
        self.stored
            .slices_by_service
            .entry(owner.clone())
            .or_default()
            .insert(slice.meta.name.clone());
        for pod in slice.endpoints.iter().filter_map(|e| e.pod.clone()) {
            *self
                .stored
                .services_by_pod
                .entry(pod)
                .or_default()
                .entry(owner.clone())
                .or_default() += 1;
        }
        let key = self.service_key(&owner);
        self.dirty.insert(key);
    }

    fn forget_slice(&mut self, slice: &EndpointSlice) {
        let Some(service) = slice.service.clone() else { return };
        let owner = (slice.meta.namespace.clone(), service);
        if let Some(names) = self.stored.slices_by_service.get_mut(&owner) {
            names.remove(&slice.meta.name);
            if names.is_empty() {
                self.stored.slices_by_service.remove(&owner);
            }
        }
        for pod in slice.endpoints.iter().filter_map(|e| e.pod.clone()) {
            if let Some(owners) = self.stored.services_by_pod.get_mut(&pod) {
                if let Some(count) = owners.get_mut(&owner) {
                    *count -= 1;
                    if *count == 0 {
                        owners.remove(&owner);
                    }
                }
                if owners.is_empty() {
                    self.stored.services_by_pod.remove(&pod);
                }
            }
        }
        let key = self.service_key(&owner);
        self.dirty.insert(key);
    }

    fn forget_entry(&mut self, entry: &object::Config<api::networking::ServiceEntry>) {
        for host in &entry.spec.hosts {
            let key = ServiceKey::new(host, &entry.meta.namespace);
            if let Some(names) = self.stored.entries_by_host.get_mut(&key) {
                names.remove(&entry.meta.name);
                if names.is_empty() {
                    self.stored.entries_by_host.remove(&key);
                }
            }
            self.dirty.insert(key);
        }
    }

    fn pod_changed(&mut self, namespace: &Arc<str>, name: &Arc<str>) {
        let owners: Vec<Name> = self
            .stored
            .services_by_pod
            .get(&(namespace.clone(), name.clone()))
            .map(|owners| owners.keys().cloned().collect())
            .unwrap_or_default();
        let keys: Vec<ServiceKey> = owners.iter().map(|owner| self.service_key(owner)).collect();
        self.dirty.extend(keys);
        self.selecting_entries_dirty(namespace);
    }

    fn node_changed(&mut self, node: &Arc<str>) {
        let pods: Vec<Name> = self
            .stored
            .snapshot
            .pods
            .iter()
            .filter(|pod| pod.node.as_ref() == Some(node))
            .map(|pod| (pod.meta.namespace.clone(), pod.meta.name.clone()))
            .collect();
        for (namespace, name) in pods {
            self.pod_changed(&namespace, &name);
        }
    }

    /// Only the network of the control plane's namespace concerns endpoints, and it concerns all of them.
    fn namespace_changed(&mut self, name: &Arc<str>, old: BTreeMap<String, String>) {
        let snapshot = &self.stored.snapshot;
        let network = snapshot
            .namespace(name)
            .and_then(|n| n.meta.labels.get(names::label::NETWORK));
        if **name == *snapshot.mesh.root_namespace && network != old.get(names::label::NETWORK) {
            self.all_dirty();
        }
    }

    fn selecting_entries_dirty(&mut self, namespace: &Arc<str>) {
        let keys: Vec<ServiceKey> = self
            .stored
            .snapshot
            .service_entries
            .in_namespace(namespace)
            .filter(|entry| entry.spec.workload_selector.is_some())
            .flat_map(|entry| entry.spec.hosts.iter().map(|host| ServiceKey::new(host, namespace)))
            .collect();
        self.dirty.extend(keys);
    }

    fn selectors_dirty(&mut self, namespace: &Arc<str>) {
        self.selecting_entries_dirty(namespace);
        let keys: Vec<ServiceKey> = self
            .stored
            .services
            .in_namespace(namespace)
            .filter(|service| !service.selector.is_empty())
            .map(|service| self.key_of(service))
            .collect();
        self.dirty.extend(keys);
    }

    /// Derives the services that events touched.
    fn derive(&mut self) {
        let mut replaced = false;
        for key in std::mem::take(&mut self.dirty) {
            let stored = &*self.stored;
            let derived = std::panic::AssertUnwindSafe(|| {
                let service = derive::service(stored, &key).map(Arc::new);
                (service, Arc::new(derive::endpoints(stored, &key)))
            });
            // One service that nobody can make sense of stays as it was, and takes no other along.
            let Ok((service, endpoints)) = std::panic::catch_unwind(derived) else {
                continue;
            };
            let snapshot = &mut self.stored.snapshot;
            let before = snapshot.endpoints.get(&key.namespace, &key.host);
            let old = (snapshot.service(&key), before);
            let (old, new) = (
                headless::addresses(old.0, old.1),
                headless::addresses(service.as_ref(), Some(&endpoints)),
            );
            if old != new {
                headless::count(Arc::make_mut(&mut snapshot.headless), &old, &new);
            }
            if snapshot.services.get(&key) != service.as_ref() {
                self.changed.insert(Input::Service(key.clone()));
                let services = Arc::make_mut(&mut snapshot.services);
                match service {
                    Some(service) => drop(services.insert(key.clone(), service)),
                    None => drop(services.remove(&key)),
                }
                replaced = true;
            }
            let before = snapshot.endpoints(&key);
            if before != endpoints {
                if before.identities != endpoints.identities {
                    self.changed.insert(Input::Identities(key.clone()));
                }
                self.changed.insert(Input::Endpoints(key.clone()));
                if endpoints.list.is_empty() {
                    snapshot.endpoints.remove(&key.namespace, &key.host);
                } else {
                    snapshot.endpoints.insert(key.namespace, key.host, endpoints);
                }
            }
        }
        if replaced {
            let mut ordered: Vec<_> = self.stored.snapshot.services.values().cloned().collect();
            ordered.sort_by(|a, b| a.age_order(b));
            let mut by_namespace: BTreeMap<Arc<str>, Vec<Arc<Service>>> = BTreeMap::new();
            for service in &ordered {
                let namespace = service.key.namespace.clone();
                by_namespace.entry(namespace).or_default().push(service.clone());
            }
            self.stored.snapshot.ordered = Arc::new(ordered);
            self.stored.snapshot.by_namespace = Arc::new(by_namespace);
            self.changed.insert(Input::Services);
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
