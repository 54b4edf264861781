//! Endpoints of clusters (EDS), and of those that carry them inline.

mod locality;

pub(crate) use locality::is_locality_weighted;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::networking::destination_rule::TrafficPolicy;
use mesh::{Address, Endpoint, Endpoints, Health, Locality, Port, Protocol, Registry, Resolution, Service, ServiceKey};
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::endpoint::v3::{
    self as endpoint_v3, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use xds::resource::{Resource, ResourceSet};

use crate::authentication::{self, Mode};
use crate::client::Client;
use crate::graph::Cx;
use crate::query::Query;
use crate::rules::HostRules;
use crate::seen::Seen;
use crate::{naming, proto, rules, sensitivity};

/// A subset: its name, the labels that it asks for, and its own policy.
type Part<'a> = (&'a str, Option<&'a BTreeMap<String, String>>, Option<TrafficPolicy>);

/// Label that keeps sessions on endpoints that are leaving.
const PERSISTENT_SESSION: &str = "istio.io/persistent-session";

/// The part of a client that endpoints of any service depend on.
pub(crate) fn view(cx: &mut Cx<'_>, client: &Client) -> Arc<Client> {
    let sensitivity = cx.sensitivity();
    Arc::new(Client {
        preserve_case: false,
        attempt_count: true,
        sidecar: None,
        namespace: client.namespace.clone().filter(|n| sensitivity.names(n)),
        labels: client.labels.clone().filter(|_| sensitivity.endpoints.by_labels),
        locality: client.locality.clone().filter(|_| sensitivity.endpoints.by_place),
        node: client.node.clone().filter(|_| sensitivity.endpoints.by_node),
        ..client.clone()
    })
}

/// Endpoints of all services that a client of the sort sees.
pub(crate) fn outbound(cx: &mut Cx<'_>, client: &Arc<Client>, seen: &Seen) -> Arc<ResourceSet> {
    let mut resources: Vec<Arc<Resource>> = Vec::with_capacity(seen.services.len());
    for service in seen.services.iter() {
        if !has_assignments(service, client) || (client.through && service.external) {
            continue;
        }
        let narrow = client_for(cx, client, service);
        let all = cx.resources(&Query::Endpoints(service.key.clone(), narrow));
        resources.extend(naming::of_ports(&all, service, seen.narrowed));
    }
    Arc::new(ResourceSet::new(resources))
}

/// Whether the service's clusters ask for endpoints.
fn has_assignments(service: &Service, client: &Client) -> bool {
    match service.resolution {
        Resolution::Endpoints => true,
        Resolution::Passthrough => !client.is_sidecar() && service.registry == Registry::Kubernetes,
        _ => false,
    }
}

/// The client, reduced to what the order and choice of this service's endpoints hang on.
fn client_for(cx: &mut Cx<'_>, client: &Arc<Client>, service: &Service) -> Arc<Client> {
    let rules = cx.host_rules(&service.key.host);
    let mesh = cx.mesh();
    let by_namespace = client.namespace.as_ref().is_some_and(|n| rules.names(n));
    Order::of_service(mesh, service, &rules).narrow(client, by_namespace)
}

/// What of a client the order and choice of a service's endpoints hang on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Order {
    pub(crate) by_place: bool,
    pub(crate) by_labels: bool,
    pub(crate) by_node: bool,
}

impl Order {
    pub(crate) fn of_service(mesh: &MeshConfig, service: &Service, rules: &HostRules) -> Self {
        let by_place = !rules.is_empty() || sensitivity::mesh_orders_by_place(mesh) || by_place(service);
        Self {
            by_place,
            by_labels: rules.order_by_labels()
                || self::by_place(service)
                || (by_place && sensitivity::mesh_orders_by_labels(mesh)),
            by_node: rules.order_by_node() || by_node(service) || (by_place && sensitivity::mesh_orders_by_node(mesh)),
        }
    }

    /// The client, reduced to this.
    pub(crate) fn narrow(self, client: &Arc<Client>, by_namespace: bool) -> Arc<Client> {
        let keeps = (by_namespace || client.namespace.is_none())
            && (self.by_place || client.locality.is_none())
            && (self.by_labels || client.labels.is_none())
            && (self.by_node || client.node.is_none());
        if keeps {
            return client.clone();
        }
        let mut narrow = Client::clone(client);
        narrow.namespace.take_if(|_| !by_namespace);
        narrow.locality.take_if(|_| !self.by_place);
        narrow.labels.take_if(|_| !self.by_labels);
        narrow.node.take_if(|_| !self.by_node);
        Arc::new(narrow)
    }
}

/// Whether clusters of the service hold its endpoints, as names that the proxy resolves.
pub(crate) fn are_inline(service: &Service) -> bool {
    matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
}

/// Whether the service's endpoints are ordered by where the client is, without any rule.
pub(crate) fn by_place(service: &Service) -> bool {
    service.traffic_distribution.is_some()
}

/// Whether the node of the client matters.
pub(crate) fn by_node(service: &Service) -> bool {
    service.node_local || service.traffic_distribution.is_some()
}

/// Assignments of one service: of each port, and of each port and subset.
pub(crate) fn of_service(cx: &mut Cx<'_>, key: &ServiceKey, client: &Client) -> Vec<Arc<Resource>> {
    let mesh = cx.mesh().clone();
    let Some(service) = cx.service(key).cloned() else {
        return Vec::new();
    };
    let endpoints = cx.endpoints(key);
    let rule = cx.host_rules(&key.host).resolve(client, &key.namespace);
    let spec = rule.as_ref().map(|r| &r.spec);
    let mut resources = Vec::new();
    for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
        let policy_of = |policy: Option<&TrafficPolicy>| {
            let policy = rules::policy_for_port(policy, port.number);
            crate::endpoint::locality::with_mesh_outliers(&mesh, policy)
        };
        let whole = policy_of(spec.and_then(|s| s.traffic_policy.as_ref()));
        let subsets = spec.map(|s| s.subsets.as_slice()).unwrap_or_default();
        let mut parts: Vec<Part<'_>> = vec![("", None, whole.clone())];
        for subset in subsets {
            let policy = rules::policy_for_subset(whole.as_ref(), subset.traffic_policy.as_ref(), port.number);
            parts.push((&subset.name, Some(&subset.labels), policy));
        }
        for (subset, labels, policy) in parts {
            let balancer = policy.as_ref().and_then(|p| p.load_balancer.as_ref());
            if balancer.and_then(|b| b.simple.as_deref()) == Some("PASSTHROUGH") {
                continue;
            }
            let name = if client.through {
                naming::sni(port.number, subset, &key.host)
            } else {
                naming::outbound(port.number, subset, &key.host)
            };
            let chosen = choose(&endpoints, port, labels, client, &service, policy.as_ref());
            let mut assignment = assign(cx, client, &chosen, policy.as_ref());
            locality::apply(&mut assignment, &chosen, &mesh, &service, policy.as_ref(), client);
            let message = assignment.finish(name.clone());
            resources.push(Arc::new(Resource::encode(name.as_str(), &message)));
        }
    }
    resources
}

/// The assignment of a cluster that resolves names; none without endpoints.
#[allow(clippy::too_many_arguments)]
pub(crate) fn inline(
    cx: &mut Cx<'_>,
    name: &str,
    endpoints: &Endpoints,
    port: &Port,
    labels: Option<&BTreeMap<String, String>>,
    client: &Client,
    service: &Service,
    policy: Option<&TrafficPolicy>,
) -> Option<ClusterLoadAssignment> {
    let mesh = cx.mesh().clone();
    let chosen = choose(endpoints, port, labels, client, service, policy);
    if chosen.is_empty() {
        return None;
    }
    let mut assignment = assign(cx, client, &chosen, policy);
    locality::apply(&mut assignment, &chosen, &mesh, service, policy, client);
    Some(assignment.finish(name.to_owned()))
}

/// One endpoint on the own workload.
pub(crate) fn local(name: &str, address: core::Address) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![LbEndpoint {
                host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint_v3::Endpoint {
                    address: Some(address),
                    ..Default::default()
                })),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The endpoints that a client may use.
fn choose<'a>(
    endpoints: &'a Endpoints,
    port: &Port,
    labels: Option<&BTreeMap<String, String>>,
    client: &Client,
    service: &Service,
    policy: Option<&TrafficPolicy>,
) -> Vec<&'a Endpoint> {
    let sends_unhealthy = policy
        .and_then(|p| p.outlier_detection.as_ref())
        .and_then(|o| o.min_health_percent)
        .is_none_or(|share| share.0 <= 0);
    let keeps_sessions = service.labels.contains_key(PERSISTENT_SESSION);
    endpoints
        .list
        .iter()
        .filter(|e| *e.service_port == *port.name)
        .filter(|e| labels.is_none_or(|l| l.iter().all(|(k, v)| e.workload.labels.get(k) == Some(v))))
        .filter(|e| !service.node_local || e.workload.node == client.node)
        .filter(|e| match e.health {
            Health::Unknown | Health::Healthy => true,
            Health::Unhealthy => sends_unhealthy,
            Health::Draining => keeps_sessions,
            Health::Terminating => false,
        })
        // A cluster of addresses cannot hold names, and one that resolves names may hold both.
        .filter(|e| !matches!(e.address, Address::Name(_)) || are_inline(service))
        .collect()
}

/// Endpoints by locality, in the making.
pub(crate) struct Assignment {
    groups: Vec<Group>,
}

/// Endpoints of one locality and priority.
struct Group {
    locality: Locality,
    priority: u32,
    weight: Option<u32>,
    /// Index among the chosen, and message.
    endpoints: Vec<(usize, LbEndpoint)>,
}

impl Group {
    fn sum(&self) -> u32 {
        self.endpoints
            .iter()
            .map(|(_, e)| e.load_balancing_weight.as_ref().map_or(1, |w| w.value))
            .fold(0, u32::saturating_add)
    }
}

impl Assignment {
    fn finish(self, cluster_name: String) -> ClusterLoadAssignment {
        ClusterLoadAssignment {
            cluster_name,
            endpoints: self
                .groups
                .into_iter()
                .map(|group| {
                    let weight = group
                        .weight
                        .or_else(|| (!group.endpoints.is_empty()).then(|| group.sum()));
                    LocalityLbEndpoints {
                        locality: Some(core::Locality {
                            region: group.locality.region,
                            zone: group.locality.zone,
                            sub_zone: group.locality.subzone,
                        }),
                        load_balancing_weight: weight.map(proto::u32_value),
                        priority: group.priority,
                        lb_endpoints: group.endpoints.into_iter().map(|(_, e)| e).collect(),
                        ..Default::default()
                    }
                })
                .collect(),
            ..Default::default()
        }
    }
}

fn assign(cx: &mut Cx<'_>, client: &Client, chosen: &[&Endpoint], policy: Option<&TrafficPolicy>) -> Assignment {
    let mut modes: BTreeMap<(&str, &BTreeMap<String, String>), authentication::Modes> = BTreeMap::new();
    let rule_mode = policy.and_then(|p| p.tls.as_ref()).map(|t| t.mode.clone());
    let mut groups: BTreeMap<Locality, Vec<(usize, LbEndpoint)>> = BTreeMap::new();
    for (index, endpoint) in chosen.iter().enumerate() {
        let workload = &endpoint.workload;
        let mutual = match rule_mode.as_deref() {
            Some(mode) => mode == "ISTIO_MUTUAL" && workload.mutual_tls,
            None if !workload.mutual_tls => false,
            None => {
                let modes = modes
                    .entry((&*workload.namespace, &workload.labels))
                    .or_insert_with(|| authentication::modes(cx, &workload.namespace, &workload.labels));
                modes.of_port(endpoint.port) != Mode::Disable
            }
        };
        // Mutual TLS that only passes through can only end at an endpoint that has it.
        if client.through && !mutual {
            groups.entry(workload.locality.clone()).or_default();
            continue;
        }
        let message = message(endpoint, mutual);
        groups
            .entry(workload.locality.clone())
            .or_default()
            .push((index, message));
    }
    Assignment {
        groups: groups
            .into_iter()
            .map(|(locality, endpoints)| Group {
                locality,
                priority: 0,
                weight: None,
                endpoints,
            })
            .collect(),
    }
}

fn message(endpoint: &Endpoint, mutual: bool) -> LbEndpoint {
    let workload = &endpoint.workload;
    let address = match &endpoint.address {
        Address::Ip(ip) => proto::socket_address(&ip.to_string(), endpoint.port),
        Address::Name(name) => proto::socket_address(name, endpoint.port),
        Address::Socket(path) => proto::pipe_address(path),
    };
    let mut filter_metadata = BTreeMap::new();
    if mutual {
        filter_metadata.insert(
            "envoy.transport_socket_match".to_owned(),
            proto::fields_of([("tlsMode", proto::text("istio"))]),
        );
    }
    let revision = match workload.canonical_revision() {
        "latest" => "",
        revision => revision,
    };
    let described = format!(
        "{};{};{};{};{}",
        workload.name,
        workload.namespace,
        workload.canonical_name(),
        revision,
        workload.cluster
    );
    filter_metadata.insert(
        "istio".to_owned(),
        proto::fields_of([("workload", proto::text(described))]),
    );
    LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint_v3::Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        health_status: match endpoint.health {
            Health::Unknown | Health::Terminating => core::HealthStatus::Unknown,
            Health::Healthy => core::HealthStatus::Healthy,
            Health::Unhealthy => core::HealthStatus::Unhealthy,
            Health::Draining => core::HealthStatus::Draining,
        } as i32,
        load_balancing_weight: Some(proto::u32_value(endpoint.weight.max(1))),
        metadata: Some(core::Metadata {
            filter_metadata,
            typed_filter_metadata: BTreeMap::new(),
        }),
    }
}
