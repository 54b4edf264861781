//! Services and their endpoints, boiled down to "this address and port goes to these pods".

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub(super) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("UDP") => Self::Udp,
            Some("SCTP") => Self::Sctp,
            _ => Self::Tcp,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Where a client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Front {
    pub(super) ip: Ipv4Addr,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

/// Where the connection ends up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Back {
    /// For comments in the table: `namespace/service:port`.
    pub(super) name: String,
    pub(super) endpoints: BTreeSet<SocketAddrV4>,
    /// `sessionAffinity: ClientIP`
    pub(super) sticky: bool,
}

/// Everything the node translates. Two equal tables render to the same rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(super) fronts: BTreeMap<Front, Back>,
}

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Where the table is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Here {
    /// Name of the node.
    pub(crate) node: String,
    /// The addresses that NodePort and hostPort answer on.
    pub(crate) addresses: Vec<Ipv4Addr>,
}

impl Table {
    pub(crate) fn build(
        services: &[Arc<Service>],
        slices: &[Arc<EndpointSlice>],
        pods: &[Arc<Pod>],
        here: &Here,
    ) -> Self {
        let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices.iter().filter(|s| s.address_type == "IPv4") {
            let labels = slice.metadata.labels.as_ref();
            if let (Some(ns), Some(name)) = (&slice.metadata.namespace, labels.and_then(|l| l.get(SERVICE_NAME))) {
                by_service.entry((ns, name)).or_default().push(slice);
            }
        }
        let mut table = Self::default();
        for pod in pods {
            table.host_ports(pod, &here.addresses);
        }
        // Oldest first: a front that two services claim stays with the first.
        let mut ordered: Vec<&Arc<Service>> = services.iter().collect();
        ordered.sort_by_key(|s| {
            (
                s.metadata.creation_timestamp.clone(),
                s.metadata.namespace.clone(),
                s.metadata.name.clone(),
            )
        });
        for service in ordered {
            let key = (
                service.metadata.namespace.as_deref().unwrap_or_default(),
                service.metadata.name.as_deref().unwrap_or_default(),
            );
            table.service(service, by_service.get(&key).map_or(&[], Vec::as_slice), here);
        }
        table
    }

    fn service(&mut self, service: &Service, slices: &[&EndpointSlice], here: &Here) {
        let Some(spec) = &service.spec else { return };
        if spec.type_.as_deref() == Some("ExternalName") {
            return;
        }
        let ip = |text: &String| text.parse::<Ipv4Addr>().ok();
        let mut addresses: Vec<Ipv4Addr> = spec.cluster_ips.iter().flatten().filter_map(ip).collect();
        addresses.extend(spec.cluster_ip.as_ref().and_then(ip));
        addresses.extend(spec.external_ips.iter().flatten().filter_map(ip));
        if spec.type_.as_deref() == Some("LoadBalancer") {
            let ingress = service
                .status
                .iter()
                .filter_map(|s| s.load_balancer.as_ref())
                .flat_map(|l| l.ingress.iter().flatten());
            addresses.extend(ingress.filter_map(|i| i.ip.as_ref()).filter_map(ip));
        }
        let local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let inside: BTreeSet<Ipv4Addr> = spec
            .cluster_ips
            .iter()
            .flatten()
            .chain(&spec.cluster_ip)
            .filter_map(ip)
            .collect();
        for port in spec.ports.iter().flatten() {
            let protocol = Protocol::parse(port.protocol.as_deref());
            let back = Back {
                name: format!(
                    "{}/{}:{}",
                    service.metadata.namespace.as_deref().unwrap_or_default(),
                    service.metadata.name.as_deref().unwrap_or_default(),
                    port.port
                ),
                endpoints: endpoints(slices, port, None),
                sticky: spec.session_affinity.as_deref() == Some("ClientIP"),
            };
            let front = |ip: &Ipv4Addr, port: i32| {
                u16::try_from(port).ok().map(|port| Front {
                    ip: *ip,
                    protocol,
                    port,
                })
            };
            let plain = addresses.iter().filter_map(|ip| front(ip, port.port));
            let node = port
                .node_port
                .into_iter()
                .flat_map(|np| here.addresses.iter().filter_map(move |ip| front(ip, np)));
            let near = local.then(|| Back {
                name: format!("{} (local)", back.name),
                endpoints: endpoints(slices, port, Some(&here.node)),
                ..back.clone()
            });
            for front in plain.chain(node) {
                let chosen = near.as_ref().filter(|_| inside.contains(&front.ip)).unwrap_or(&back);
                self.fronts.entry(front).or_insert_with(|| chosen.clone());
            }
        }
    }

    fn host_ports(&mut self, pod: &Pod, node_ips: &[Ipv4Addr]) {
        let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else {
            return;
        };
        let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let Some(ip) = status
            .pod_ip
            .as_ref()
            .and_then(|ip| ip.parse().ok())
            .filter(|_| !over && spec.host_network != Some(true))
        else {
            return;
        };
        for port in spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .flat_map(|c| c.ports.iter().flatten())
        {
            let (Some(Ok(host)), Ok(inner)) = (port.host_port.map(u16::try_from), u16::try_from(port.container_port))
            else {
                continue;
            };
            for node in node_ips {
                let name = format!(
                    "{}/{} hostPort {host}",
                    pod.metadata.namespace.as_deref().unwrap_or_default(),
                    pod.metadata.name.as_deref().unwrap_or_default()
                );
                let back = Back {
                    name,
                    endpoints: BTreeSet::from([SocketAddrV4::new(ip, inner)]),
                    sticky: false,
                };
                self.fronts
                    .entry(Front {
                        ip: *node,
                        protocol: Protocol::parse(port.protocol.as_deref()),
                        port: host,
                    })
                    .or_insert(back);
            }
        }
    }
}

/// Ready endpoints (of one node: `on`); if there are none, those that end but still serve (as kube-proxy).
fn endpoints(slices: &[&EndpointSlice], port: &ServicePort, on: Option<&str>) -> BTreeSet<SocketAddrV4> {
    let (mut ready, mut serving) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let matches = |p: &&k8s_openapi::api::discovery::v1::EndpointPort| {
            p.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
                && Protocol::parse(p.protocol.as_deref()) == Protocol::parse(port.protocol.as_deref())
        };
        let Some(number) = slice
            .ports
            .iter()
            .flatten()
            .find(matches)
            .and_then(|p| p.port)
            .and_then(|p| u16::try_from(p).ok())
        else {
            continue;
        };
        let here = |e: &&Endpoint| on.is_none_or(|node| e.node_name.as_deref() == Some(node));
        for endpoint in slice.endpoints.iter().filter(here) {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let addresses = endpoint
                .addresses
                .iter()
                .filter_map(|a| a.parse().ok())
                .map(|ip| SocketAddrV4::new(ip, number));
            if conditions.ready.unwrap_or(true) {
                ready.extend(addresses);
            } else if conditions.serving.unwrap_or(false) && conditions.terminating.unwrap_or(false) {
                serving.extend(addresses);
            }
        }
    }
    if ready.is_empty() { serving } else { ready }
}
