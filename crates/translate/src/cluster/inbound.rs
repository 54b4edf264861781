//! Clusters of the own workload's ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::names::group;
use api::networking::Sidecar;
use api::networking::destination_rule::TrafficPolicy;
use mesh::{Config, Port, Protocol, Registry, Service, TargetPort};
use xds::envoy::config::cluster::v3::cluster;
use xds::resource::Resource;

use super::draft::Draft;
use super::outbound::service_metadata;
use super::{fixed, policy};
use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::proxy::{Interception, ProxyClass};
use crate::wire::Fields;
use crate::{naming, proto, rules};

/// A port of the own workload, and the services that lead to it, older first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// Port of the workload.
    pub(crate) port: u16,
    /// Services with their ports.
    pub(crate) services: Vec<(Arc<Service>, Port)>,
}

/// A port on which a workload is served: one that services lead to, or an ingress listener of its Sidecar.
#[derive(Clone, Debug)]
pub(crate) struct Inbound {
    /// Port that traffic arrives at.
    pub(crate) number: u16,
    /// The service's port, or the listener's.
    pub(crate) port: Port,
    /// Services that lead to it, older first; a listener may have none.
    pub(crate) services: Vec<(Arc<Service>, Port)>,
    /// The ingress listener.
    pub(crate) listener: Option<Ingress>,
}

/// What an ingress listener says.
#[derive(Clone, Debug)]
pub(crate) struct Ingress {
    /// Address that the listener is named after.
    pub(crate) bind: String,
    /// Whether traffic is not redirected to it.
    pub(crate) binds_ports: bool,
    /// What stands for a service's host.
    pub(crate) host: String,
    /// Path of the Sidecar.
    pub(crate) path: String,
    destination: Destination,
}

/// Where an ingress listener sends traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Destination {
    /// Where it was sent.
    Original,
    Address(String, u16),
    Socket(String),
}

impl Inbound {
    pub(crate) fn service(&self) -> Option<&Arc<Service>> {
        self.services.first().map(|(service, _)| service)
    }
}

/// Ports on which the workload is served, in order.
pub(crate) fn served(
    cx: &mut Cx<'_>,
    class: &ProxyClass,
    id: ClassId,
    sidecar: Option<&Config<Sidecar>>,
) -> Vec<Inbound> {
    let of_services = cx.targets(id);
    if let Some(sidecar) = sidecar.filter(|s| !s.spec.ingress.is_empty()) {
        return listeners(class, sidecar, &of_services);
    }
    // Without redirection the workload itself listens on these ports.
    if class.interception == Interception::None {
        return Vec::new();
    }
    of_services
        .iter()
        .filter_map(|target| {
            Some(Inbound {
                number: target.port,
                port: target.services.first()?.1.clone(),
                services: target.services.clone(),
                listener: None,
            })
        })
        .collect()
}

fn listeners(class: &ProxyClass, sidecar: &Config<Sidecar>, of_services: &[Target]) -> Vec<Inbound> {
    let mut by_port: BTreeMap<u16, Inbound> = BTreeMap::new();
    for listener in &sidecar.spec.ingress {
        let Some(named) = &listener.port else { continue };
        let Ok(number) = u16::try_from(named.number.0) else {
            continue;
        };
        let port = Port {
            name: named.name.clone(),
            number,
            protocol: Protocol::parse(&named.protocol),
            target: TargetPort::Same,
        };
        let first = of_services.iter().find(|t| t.port == number);
        let bind = match (listener.bind.as_str(), class.ingress_address) {
            ("", Some(own)) => own.to_string(),
            ("", None) => class.wildcard().to_owned(),
            (bind, _) => bind.to_owned(),
        };
        let ingress = Ingress {
            bind,
            binds_ports: match listener.capture_mode.as_deref() {
                None | Some("DEFAULT") => class.interception == Interception::None,
                Some(mode) => mode == "NONE",
            },
            host: format!("{}.{}", sidecar.meta.name, class.namespace),
            path: naming::object_path(group::NETWORKING, "sidecar", &sidecar.meta),
            destination: destination(class, &listener.default_endpoint),
        };
        by_port.entry(number).or_insert_with(|| Inbound {
            number,
            services: first
                .and_then(|t| t.services.first())
                .map(|(service, _)| (service.clone(), port.clone()))
                .into_iter()
                .collect(),
            port,
            listener: Some(ingress),
        });
    }
    by_port.into_values().collect()
}

fn destination(class: &ProxyClass, endpoint: &str) -> Destination {
    if let Some(path) = endpoint.strip_prefix("unix://") {
        return Destination::Socket(path.to_owned());
    }
    let Some((address, port)) = endpoint.rsplit_once(':') else {
        return Destination::Original;
    };
    let Ok(port) = port.parse() else {
        return Destination::Original;
    };
    let address = match address.trim_matches(['[', ']']) {
        "0.0.0.0" | "::" => class
            .ingress_address
            .map_or_else(|| class.localhost().to_owned(), |own| own.to_string()),
        _ => class.localhost().to_owned(),
    };
    Destination::Address(address, port)
}

/// The answer to [`crate::query::Query::Targets`]: ports of the workload that services lead to, in order.
pub(crate) fn targets(cx: &mut Cx<'_>, class: &ProxyClass) -> Vec<Target> {
    let services = cx.services();
    let mut by_port: BTreeMap<u16, Vec<(Arc<Service>, Port)>> = BTreeMap::new();
    for service in services.of_namespace(&class.namespace) {
        let selected = !class.is_entry
            && !service.selector.is_empty()
            && service
                .selector
                .iter()
                .all(|(k, v)| class.workload_labels.get(k) == Some(v));
        for port in &service.ports {
            if selected && let Some(number) = target_port(service, port, class) {
                by_port.entry(number).or_default().push((service.clone(), port.clone()));
            }
        }
    }
    for (host, namespace, port_name, number) in &class.slice_targets {
        let key = mesh::ServiceKey {
            host: host.clone(),
            namespace: namespace.clone(),
        };
        if let Some(service) = services.get(&key)
            && let Some(port) = service.ports.iter().find(|p| p.name == *port_name)
        {
            by_port
                .entry(*number)
                .or_default()
                .push((service.clone(), port.clone()));
        }
    }
    by_port
        .into_iter()
        .map(|(port, services)| Target { port, services })
        .collect()
}

fn target_port(service: &Service, port: &Port, class: &ProxyClass) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Same => Some(port.number),
        TargetPort::Name(name) if service.registry == Registry::Kubernetes => class.named_ports.get(name).copied(),
        TargetPort::Name(_) => None,
    }
}

pub(super) fn clusters(
    cx: &mut Cx<'_>,
    class: &ProxyClass,
    id: ClassId,
    sidecar: Option<&Config<Sidecar>>,
) -> Vec<Arc<Resource>> {
    let mesh = cx.mesh().clone();
    let served = served(cx, class, id, sidecar);
    served
        .iter()
        .map(|inbound| cluster(cx, class, sidecar, &mesh, inbound))
        .collect()
}

fn cluster(
    cx: &mut Cx<'_>,
    class: &ProxyClass,
    sidecar: Option<&Config<Sidecar>>,
    mesh: &MeshConfig,
    inbound: &Inbound,
) -> Arc<Resource> {
    let localhost = mesh.inbound_traffic_policy.mode.as_deref() == Some("LOCALHOST");
    let port = &inbound.port;
    let name = naming::inbound(inbound.number);
    let destination = match &inbound.listener {
        Some(listener) => listener.destination.clone(),
        None if localhost => Destination::Address(class.localhost().to_owned(), inbound.number),
        None => Destination::Original,
    };
    let discovery = if destination == Destination::Original {
        cluster::DiscoveryType::OriginalDst
    } else {
        cluster::DiscoveryType::Static
    };
    let mut draft = Draft::new(name.clone(), discovery, mesh.connect_timeout);
    draft.cluster.common_lb_config = Some(Default::default());
    if let Some(service) = inbound.service().filter(|_| !mesh.inbound_cluster_stat_name.is_empty()) {
        let port = Port {
            target: TargetPort::Number(inbound.number),
            ..port.clone()
        };
        let stat = naming::stat_name(&mesh.inbound_cluster_stat_name, service, "", &port, cx.domain());
        draft.cluster.alt_stat_name = format!("{stat};");
    }
    if class.settings.preserve_case && (port.protocol.is_http() || port.protocol.is_unknown()) {
        draft.preserve_case();
    }
    if port.protocol.is_http2() {
        draft.set_http2();
    } else if port.protocol.is_unknown() {
        draft.set_downstream_protocol();
    }
    let to_localhost = matches!(&destination, Destination::Address(address, _) if address == class.localhost());
    match &destination {
        Destination::Original => {
            // The destination is the workload itself and never goes away.
            draft.cluster.cleanup_interval = Some(proto::seconds(9_223_372_035));
        }
        Destination::Address(address, port) => {
            draft.cluster.load_assignment = Some(crate::endpoint::local(&name, proto::socket_address(address, *port)));
        }
        Destination::Socket(path) => {
            draft.cluster.load_assignment = Some(crate::endpoint::local(&name, proto::pipe_address(path)));
        }
    }
    if !to_localhost {
        draft.cluster.upstream_bind_config = Some(fixed::source(class));
    }
    let own = match inbound.service() {
        Some(service) => describe(cx, class, inbound, service, &mut draft),
        None => None,
    };
    let applied = policy::with_mesh_defaults(mesh, rules::policy_for_port(own.as_ref(), port.number));
    let of_sidecar = sidecar.and_then(|sidecar| {
        let listener = sidecar
            .spec
            .ingress
            .iter()
            .find(|l| l.port.as_ref().is_some_and(|p| u32::from(inbound.number) == p.number.0));
        listener
            .and_then(|l| l.connection_pool.clone())
            .or_else(|| sidecar.spec.inbound_connection_pool.clone())
    });
    let pool = of_sidecar
        .or_else(|| applied.and_then(|p| p.connection_pool))
        .unwrap_or_default();
    policy::apply_connection_pool(&mut draft, mesh, &pool, None);
    if draft.is_original_dst() {
        draft.cluster.lb_policy = cluster::LbPolicy::ClusterProvided as i32;
    }
    draft.finish()
}

/// Names services in the metadata; the traffic policy of the rule for the first one.
fn describe(
    cx: &mut Cx<'_>,
    class: &ProxyClass,
    inbound: &Inbound,
    service: &Arc<Service>,
    draft: &mut Draft,
) -> Option<TrafficPolicy> {
    // Each service once, if it names the port by the same number.
    let mut named: Vec<&Arc<Service>> = Vec::new();
    for (service, _) in inbound.services.iter().filter(|(_, p)| p.number == inbound.port.number) {
        if named.iter().all(|s| s.key != service.key) {
            named.push(service);
        }
    }
    let client = Client {
        labels: None,
        ..Client::of_class(class)
    };
    let rule = cx
        .host_rules(&service.key.host)
        .resolve(&client, &service.key.namespace);
    let own = rule.as_ref().and_then(|r| r.spec.traffic_policy.clone());
    if !service.external {
        let mut istio = Fields::default();
        if let (Some(rule), Some(_)) = (&rule, &own) {
            let path = naming::object_path(group::NETWORKING, "destination-rule", &rule.meta);
            istio = istio.text("config", &path);
        }
        let services: Vec<Fields> = named.iter().map(|s| service_metadata(s)).collect();
        draft.metadata = Some(istio.list("services", &services).metadata("istio"));
    }
    own
}
