//! What proxies of a namespace see: services and VirtualServices, all that are exported to it or what a Sidecar
//! imports of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::networking::sidecar::{EgressListener, OutboundTrafficPolicy};
use api::networking::virtual_service::Destination;
use api::networking::{Sidecar, VirtualService};
use hashbrown::HashMap;
use mesh::{Config, Port, Protocol, Registry, Resolution, Service, TargetPort};

use crate::graph::Cx;
use crate::host;
use crate::naming;
use crate::route::virtual_services::Ready;
use crate::seen::Seen;
use crate::sidecar::{Imports, SidecarName};

type Services = Arc<Vec<Arc<Service>>>;
type VirtualServices = Arc<Vec<Ready>>;

/// Whose scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScopeKey {
    pub(crate) namespace: Arc<str>,
    /// The Sidecar that narrows it.
    pub(crate) sidecar: Option<SidecarName>,
}

/// What a namespace sees.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Scope {
    /// Services.
    pub(crate) seen: Seen,
    /// Other names of services, by the service's host.
    pub(crate) aliases: BTreeMap<Arc<str>, Vec<Arc<Service>>>,
    /// VirtualServices with full host names and delegates resolved, older first.
    pub(crate) virtual_services: VirtualServices,
    /// What outbound listeners are made of; one without a port, if no Sidecar says otherwise.
    pub(crate) egress: Vec<Egress>,
    /// What happens to traffic whose destination is unknown.
    pub(crate) unknown: OutboundTrafficPolicy,
}

/// What of it outbound listeners are made of: of the VirtualServices, those that route connections.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outward {
    pub(crate) aliases: BTreeMap<Arc<str>, Vec<Arc<Service>>>,
    pub(crate) egress: Vec<Egress>,
}

/// A set of services that outbound listeners are made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Egress {
    /// The port, if it is for one only.
    pub(crate) port: Option<Port>,
    /// Address or socket to listen on; empty if it follows the services.
    pub(crate) bind: String,
    /// Whether traffic is not redirected to it.
    pub(crate) binds_ports: bool,
    /// Services.
    pub(crate) services: Services,
    /// VirtualServices for proxies in the mesh.
    pub(crate) virtual_services: VirtualServices,
}

impl Egress {
    /// Whether clients of its port name the port they want, as they do with a proxy or a socket.
    pub(crate) fn is_for_any_port(&self) -> bool {
        self.port
            .as_ref()
            .is_some_and(|p| p.number == 0 || p.protocol == Protocol::HttpProxy)
    }
}

impl Scope {
    /// The services from which routes of a port are made; port 0 is told by what it binds to.
    pub(crate) fn egress_for(&self, port: u16, bind: &str) -> Option<&Egress> {
        self.egress.iter().find(|egress| match &egress.port {
            None => true,
            Some(own) => own.number == port && (port != 0 || egress.bind == bind),
        })
    }
}

/// The answer to [`crate::query::Query::Visible`]: the services that proxies of a namespace see without a Sidecar.
pub(crate) fn visible(cx: &mut Cx<'_>, namespace: &str) -> Seen {
    let services = cx.services().iter();
    let visible = services.filter(|s| s.resolution != Resolution::Alias && s.visibility.includes(namespace));
    let services = one_per_host(visible.cloned(), namespace);
    cx.seen(services, false)
}

/// The answer to [`crate::query::Query::Outward`].
pub(crate) fn outward(cx: &mut Cx<'_>, key: &ScopeKey) -> Outward {
    let scope = cx.scope_of(key.clone());
    let of_connections = |egress: &Egress| Egress {
        virtual_services: Arc::new(
            egress
                .virtual_services
                .iter()
                .filter(|routes| routes.routes_connections())
                .cloned()
                .collect(),
        ),
        ..egress.clone()
    };
    Outward {
        aliases: scope.aliases.clone(),
        egress: scope.egress.iter().map(of_connections).collect(),
    }
}

/// The Sidecar of a scope.
pub(crate) fn sidecar(cx: &mut Cx<'_>, key: &ScopeKey) -> Option<Arc<Config<Sidecar>>> {
    let (namespace, name) = key.sidecar.as_ref()?;
    cx.all().get(namespace, name).cloned()
}

/// What happens to traffic whose destination is unknown: the Sidecar says it, or the mesh.
pub(crate) fn unknown(cx: &mut Cx<'_>, sidecar: Option<&Config<Sidecar>>) -> OutboundTrafficPolicy {
    let Some(own) = sidecar.and_then(|s| s.spec.outbound_traffic_policy.as_ref()) else {
        return cx.mesh().outbound_traffic_policy.clone();
    };
    let mut policy = own.clone();
    policy.mode.get_or_insert_with(|| "REGISTRY_ONLY".to_owned());
    policy
}

/// Cluster of such traffic; none if it is blocked.
pub(crate) fn cluster_of_unknown(policy: &OutboundTrafficPolicy) -> Option<String> {
    let cluster = |proxy: &Destination| {
        let port = proxy.port.as_ref().map_or(0, naming::port);
        naming::outbound(port, &proxy.subset, &proxy.host)
    };
    let proxy = policy.egress_proxy.as_ref();
    (!policy.registry_only()).then(|| proxy.map_or_else(|| naming::PASSTHROUGH.to_owned(), cluster))
}

/// The port that a destination states, or the only one that its service has.
pub(crate) fn stated_port(cx: &mut Cx<'_>, scope: &ScopeKey, destination: &Destination) -> Option<u16> {
    if let Some(selector) = &destination.port {
        return Some(naming::port(selector));
    }
    match cx.known(scope, &destination.host)?.ports.as_slice() {
        [only] => Some(only.number),
        _ => None,
    }
}

/// The answer to [`crate::query::Query::SelectsByLabels`]: whether a route or a rule depends on labels of clients that
/// see this.
pub(crate) fn selects_by_labels(cx: &mut Cx<'_>, key: &ScopeKey) -> bool {
    let scope = cx.scope_of(key.clone());
    scope.virtual_services.iter().any(|vs| vs.selects_by_labels) || cx.rules().select_by_labels()
}

pub(crate) fn of_key(cx: &mut Cx<'_>, key: &ScopeKey) -> Scope {
    let namespace = &key.namespace;
    let included = cx.services().iter().filter(|s| s.visibility.includes(namespace));
    let is_alias = |s: &&Arc<Service>| s.resolution == Resolution::Alias;
    let all = cx.virtual_services();
    let routes = all.iter().filter(|(_, visibility)| visibility.includes(namespace));
    let routes: Vec<_> = routes.map(|(routes, _)| routes.clone()).collect();
    let sidecar = sidecar(cx, key);
    let mut scope = Scope {
        virtual_services: Arc::new(routes),
        unknown: unknown(cx, sidecar.as_deref()),
        ..Scope::default()
    };
    let imported = |alias: &Service| match &sidecar {
        None => true,
        Some(sidecar) if sidecar.spec.egress.is_empty() => true,
        Some(sidecar) => sidecar
            .spec
            .egress
            .iter()
            .any(|e| Imports::parse(&e.hosts, namespace).service(&alias.key.namespace, &alias.key.host)),
    };
    for alias in included.clone().filter(is_alias) {
        if let Some(target) = alias.alias_of.as_ref().filter(|_| imported(alias)) {
            scope.aliases.entry(target.clone()).or_default().push(alias.clone());
        }
    }
    let listeners = sidecar.as_ref().map(|s| s.spec.egress.as_slice()).unwrap_or_default();
    if listeners.is_empty() {
        scope.seen = cx.visible(namespace);
        scope.egress = vec![Egress {
            services: scope.seen.services.clone(),
            virtual_services: Arc::new(of_mesh(&scope.virtual_services).cloned().collect()),
            ..Egress::default()
        }];
    } else {
        let visible: Vec<_> = included.filter(|s| !is_alias(s)).collect();
        scope.egress = listeners
            .iter()
            .map(|l| egress(l, namespace, &visible, &scope.virtual_services))
            .collect();
        scope.seen = cx.seen(union(&scope.egress, namespace, &visible), true);
    }
    scope
}

fn of_mesh(all: &VirtualServices) -> impl Iterator<Item = &Ready> {
    all.iter().filter(|vs| vs.gateways().any(|gateway| gateway == "mesh"))
}

/// One service per host, in order of age, of services in that order.
fn one_per_host(services: impl Iterator<Item = Arc<Service>>, namespace: &str) -> Vec<Arc<Service>> {
    let mut places: HashMap<Arc<str>, usize> = HashMap::new();
    let mut list: Vec<Arc<Service>> = Vec::new();
    let mut is_in_order = true;
    for service in services {
        match places.get(&service.key.host).map(|place| &mut list[*place]) {
            None => {
                places.insert(service.key.host.clone(), list.len());
                list.push(service);
            }
            Some(other) if wins(&service, other, namespace) => {
                *other = service;
                is_in_order = false;
            }
            Some(_) => {}
        }
    }
    if !is_in_order {
        list.sort_by(|a, b| a.age_order(b));
    }
    list
}

/// Of two services with one host: the one of the own namespace, else Kubernetes', else the older.
fn wins(new: &Service, old: &Service, namespace: &str) -> bool {
    let rank = |s: &Service| (*s.key.namespace == *namespace, s.registry == Registry::Kubernetes);
    rank(new) > rank(old)
}

fn egress(listener: &EgressListener, namespace: &str, visible: &[&Arc<Service>], routes: &VirtualServices) -> Egress {
    let imports = Imports::parse(&listener.hosts, namespace);
    let port = listener.port.as_ref().map(|p| Port {
        name: p.name.clone(),
        number: u16::try_from(p.number.0).unwrap_or_default(),
        protocol: Protocol::parse(&p.protocol),
        target: TargetPort::Same,
    });
    let mut egress = Egress {
        binds_ports: listener.capture_mode.as_deref() == Some("NONE") || listener.bind.starts_with("unix://"),
        bind: listener.bind.clone(),
        port,
        ..Egress::default()
    };
    let only = only_port(&egress);
    let services = visible
        .iter()
        .filter(|s| imports.service(&s.key.namespace, &s.key.host))
        .filter_map(|s| match only {
            None => Some((*s).clone()),
            Some(port) => with_ports(s, &BTreeSet::from([port])),
        });
    egress.services = Arc::new(one_per_host(services, namespace));
    let routes = of_mesh(routes).filter(|vs| imports.virtual_service(&vs.meta.namespace, &vs.spec.hosts));
    egress.virtual_services = Arc::new(routes.cloned().collect());
    egress
}

/// The one port of services that a listener is for.
fn only_port(egress: &Egress) -> Option<u16> {
    egress
        .port
        .as_ref()
        .filter(|_| !egress.is_for_any_port())
        .map(|p| p.number)
}

/// The service with those of its ports; none if it has none of them.
fn with_ports(service: &Arc<Service>, numbers: &BTreeSet<u16>) -> Option<Arc<Service>> {
    let kept = |p: &&Port| numbers.contains(&p.number);
    let count = service.ports.iter().filter(kept).count();
    if count == service.ports.len() {
        return Some(service.clone());
    }
    (count > 0).then(|| {
        Arc::new(Service {
            ports: service.ports.iter().filter(kept).cloned().collect(),
            ..Service::clone(service)
        })
    })
}

/// All services of all listeners, and those that their VirtualServices lead to.
fn union(listeners: &[Egress], namespace: &str, visible: &[&Arc<Service>]) -> Vec<Arc<Service>> {
    let mut by_host: BTreeMap<&str, Vec<&Arc<Service>>> = BTreeMap::new();
    for service in visible {
        by_host.entry(&service.key.host).or_default().push(service);
    }
    let mut union = Union::default();
    for egress in listeners {
        for service in egress.services.iter() {
            union.add(service);
        }
        for routes in egress.virtual_services.iter() {
            for (host, ports) in destinations(&routes.spec, namespace) {
                let Some(candidates) = by_host.get(host) else { continue };
                let candidates = candidates.iter().map(|s| (*s).clone());
                let Some(service) = one_per_host(candidates, namespace).pop() else {
                    continue;
                };
                let service = match only_port(egress) {
                    Some(port) => with_ports(&service, &BTreeSet::from([port])),
                    None if ports.contains(&0) => Some(service),
                    None => with_ports(&service, &ports),
                };
                if let Some(service) = service {
                    union.add(&service);
                }
            }
        }
    }
    union.list
}

/// Services in the order in which they were added, one per host.
#[derive(Default)]
struct Union {
    list: Vec<Arc<Service>>,
    places: HashMap<Arc<str>, usize>,
}

impl Union {
    /// Adds a service, or its ports to the same service; what was there first stays, unless it gives way to Kubernetes.
    fn add(&mut self, service: &Arc<Service>) {
        let place = *self.places.entry(service.key.host.clone()).or_insert(self.list.len());
        let Some(found) = self.list.get_mut(place) else {
            self.list.push(service.clone());
            return;
        };
        if found.registry != Registry::Kubernetes && service.registry == Registry::Kubernetes {
            *found = service.clone();
        } else if found.key == service.key {
            let new: Vec<Port> = service
                .ports
                .iter()
                .filter(|p| found.port(p.number).is_none())
                .cloned()
                .collect();
            if !new.is_empty() {
                Arc::make_mut(found).ports.extend(new);
            }
        }
    }
}

/// Hosts that a VirtualService leads clients of the namespace to, with ports; 0 stands for all.
fn destinations<'a>(spec: &'a VirtualService, namespace: &str) -> BTreeMap<&'a str, BTreeSet<u16>> {
    let mut hosts: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
    let mut push = |destination: &'a Option<Destination>| {
        if let Some(destination) = destination {
            let port = destination.port.as_ref().map_or(0, naming::port);
            hosts.entry(&destination.host).or_default().insert(port);
        }
    };
    let from = |wanted: &str| wanted.is_empty() || wanted == namespace;
    for route in &spec.http {
        if route.matches.is_empty() || route.matches.iter().any(|m| from(&m.source_namespace)) {
            route.route.iter().for_each(|r| push(&r.destination));
            push(&route.mirror);
            route.mirrors.iter().for_each(|m| push(&m.destination));
        }
    }
    for route in &spec.tcp {
        if route.matches.is_empty() || route.matches.iter().any(|m| from(&m.source_namespace)) {
            route.route.iter().for_each(|r| push(&r.destination));
        }
    }
    for route in &spec.tls {
        if route.matches.iter().any(|m| from(&m.source_namespace)) {
            route.route.iter().for_each(|r| push(&r.destination));
        }
    }
    hosts.retain(|host, _| !host.is_empty() && !host::is_wildcard(host));
    hosts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_unknown_goes_where_the_policy_says() {
        let check = |policy: serde_json::Value, expected: Option<&str>| {
            let parsed: OutboundTrafficPolicy = serde_json::from_value(policy.clone()).unwrap();
            assert_eq!(cluster_of_unknown(&parsed).as_deref(), expected, "{policy}");
        };
        let proxy = serde_json::json!({"host": "out.example.com", "port": {"number": 3128}});
        check(serde_json::json!({}), Some("PassthroughCluster"));
        check(
            serde_json::json!({"egressProxy": proxy}),
            Some("outbound|3128||out.example.com"),
        );
        check(serde_json::json!({"mode": "REGISTRY_ONLY"}), None);
        check(serde_json::json!({"mode": "REGISTRY_ONLY", "egressProxy": proxy}), None);
    }
}
