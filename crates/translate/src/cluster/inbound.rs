//! Clusters of the own workload's ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::names::group;
use mesh::{Input, Port, Registry, Service, TargetPort};
use xds::envoy::config::cluster::v3::{Cluster, cluster};

use super::draft::Draft;
use super::outbound::service_metadata;
use super::{fixed, policy};
use crate::client::Client;
use crate::graph::Cx;
use crate::proxy::{Interception, ProxyClass};
use crate::{naming, proto, rules};

/// A port of the own workload, and the services that lead to it, older first.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Port of the workload.
    pub(crate) port: u16,
    /// Services with their ports.
    pub(crate) services: Vec<(Arc<Service>, Port)>,
}

/// Ports of the workload that services lead to, in order.
pub(crate) fn targets(cx: &mut Cx<'_>, class: &ProxyClass) -> Vec<Target> {
    let snapshot = cx.read(Input::Services);
    let mut by_port: BTreeMap<u16, Vec<(Arc<Service>, Port)>> = BTreeMap::new();
    for service in snapshot
        .services()
        .iter()
        .filter(|s| s.key.namespace == class.namespace)
    {
        let selected = !class.is_entry
            && !service.selector.is_empty()
            && service
                .selector
                .iter()
                .all(|(k, v)| class.workload_labels.get(k) == Some(v));
        for port in &service.ports {
            if selected {
                if let Some(number) = target_port(service, port, class) {
                    by_port.entry(number).or_default().push((service.clone(), port.clone()));
                }
            }
        }
    }
    for (host, namespace, port_name, number) in &class.slice_targets {
        let key = mesh::ServiceKey {
            host: host.clone(),
            namespace: namespace.clone(),
        };
        if let Some(service) = snapshot.service(&key) {
            if let Some(port) = service.ports.iter().find(|p| p.name == *port_name) {
                by_port
                    .entry(*number)
                    .or_default()
                    .push((service.clone(), port.clone()));
            }
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

pub(super) fn clusters(cx: &mut Cx<'_>, class: &ProxyClass) -> Vec<Cluster> {
    if class.interception == Interception::None {
        return Vec::new();
    }
    let mesh = cx.read(Input::Mesh).mesh.clone();
    let localhost = mesh.inbound_traffic_policy.mode.as_deref() == Some("LOCALHOST");
    let mut clusters = Vec::new();
    for target in targets(cx, class) {
        let Some((service, port)) = target.services.first() else {
            continue;
        };
        let name = naming::inbound(target.port);
        let discovery = if localhost {
            cluster::DiscoveryType::Static
        } else {
            cluster::DiscoveryType::OriginalDst
        };
        let mut draft = Draft::new(name.clone(), discovery, mesh.connect_timeout);
        draft.cluster.common_lb_config = Some(Default::default());
        if !mesh.inbound_cluster_stat_name.is_empty() {
            let port = Port {
                target: TargetPort::Number(target.port),
                ..port.clone()
            };
            let stat = naming::stat_name(&mesh.inbound_cluster_stat_name, service, "", &port, cx.domain());
            draft.cluster.alt_stat_name = format!("{stat};");
        }
        if port.protocol.is_http2() {
            draft.set_http2();
        } else if port.protocol.is_unknown() {
            draft.set_downstream_protocol();
        }
        if localhost {
            draft.cluster.load_assignment = Some(crate::endpoint::local(&name, class.localhost(), target.port));
        } else {
            draft.cluster.upstream_bind_config = Some(fixed::source(class));
            // The destination is the workload itself and never goes away.
            draft.cluster.cleanup_interval = Some(proto::seconds(9_223_372_035));
        }
        // Each service once, if it names the port by the same number.
        let mut named: Vec<&Arc<Service>> = Vec::new();
        for (service, _) in target.services.iter().filter(|(_, p)| p.number == port.number) {
            if named.iter().all(|s| s.key != service.key) {
                named.push(service);
            }
        }
        let mut istio = proto::fields_of([("services", proto::list(named.iter().map(|s| service_metadata(s))))]);
        let rule = {
            let client = Client {
                labels: None,
                ..Client::of_class(class)
            };
            cx.host_rules(&service.key.host)
                .resolve(&client, &service.key.namespace)
        };
        let own = rule.as_ref().and_then(|r| r.spec.traffic_policy.as_ref());
        if let (Some(rule), Some(_)) = (&rule, own) {
            let path = naming::object_path(group::NETWORKING, "destination-rule", &rule.meta);
            istio.fields.insert("config".to_owned(), proto::text(path));
        }
        if !service.external {
            draft.cluster.metadata = Some(proto::metadata([("istio", istio)]));
        }
        let applied = policy::with_mesh_defaults(&mesh, rules::policy_for_port(own, port.number));
        let pool = applied.and_then(|p| p.connection_pool).unwrap_or_default();
        policy::apply_connection_pool(&mut draft, &mesh, &pool, None);
        if draft.is_original_dst() {
            draft.cluster.lb_policy = cluster::LbPolicy::ClusterProvided as i32;
        }
        clusters.push(draft.finish());
    }
    clusters
}
