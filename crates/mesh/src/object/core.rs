//! Kubernetes' own kinds, reduced to the fields that matter here: thousands of pods stay in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use k8s_openapi::apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString};

use super::Meta;

impl From<&ObjectMeta> for Meta {
    fn from(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
            labels: meta.labels.clone().unwrap_or_default(),
            annotations: meta.annotations.clone().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            generation: meta.generation.unwrap_or_default(),
        }
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// Name and labels.
    pub meta: Meta,
}

impl From<&v1::Namespace> for Namespace {
    fn from(namespace: &v1::Namespace) -> Self {
        Self {
            meta: (&namespace.metadata).into(),
        }
    }
}

/// A node: its labels say where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name and labels.
    pub meta: Meta,
    /// Version of its kubelet; empty if it does not say.
    pub kubelet: String,
}

impl From<&v1::Node> for Node {
    fn from(node: &v1::Node) -> Self {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        Self {
            meta: (&node.metadata).into(),
            kubelet: info.map(|info| info.kubelet_version.clone()).unwrap_or_default(),
        }
    }
}

/// A named port of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerPort {
    /// Name; empty if it has none.
    pub name: String,
    /// Number.
    pub port: u16,
    /// Whether it is a TCP port.
    pub tcp: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Name and labels.
    pub meta: Meta,
    /// Its addresses, the first one first.
    pub addresses: Vec<IpAddr>,
    /// Node it runs on.
    pub node: Option<Arc<str>>,
    /// Its service account.
    pub service_account: Arc<str>,
    /// Whether it shares the node's network.
    pub host_network: bool,
    /// Ports of its containers.
    pub ports: Vec<ContainerPort>,
    /// Name of the workload it belongs to: its Deployment, or its own name.
    pub workload: Arc<str>,
    /// Whether it has ended.
    pub ended: bool,
    /// Host name and subdomain, from which headless services make names.
    pub hostname: Option<Arc<str>>,
    /// Subdomain.
    pub subdomain: Option<Arc<str>>,
}

impl From<&v1::Pod> for Pod {
    fn from(pod: &v1::Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let mut addresses: Vec<IpAddr> = status
            .and_then(|s| s.pod_ips.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|ip| ip.ip.parse().ok())
            .collect();
        if addresses.is_empty() {
            addresses.extend(
                status
                    .and_then(|s| s.pod_ip.as_ref())
                    .and_then(|ip| ip.parse::<IpAddr>().ok()),
            );
        }
        let containers = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        // A native sidecar is an init container that keeps running; its ports count.
        let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        let ports = containers
            .iter()
            .chain(init.iter().filter(|c| c.restart_policy.as_deref() == Some("Always")))
            .flat_map(|c| c.ports.iter().flatten())
            .filter_map(|p| {
                Some(ContainerPort {
                    name: p.name.clone().unwrap_or_default(),
                    port: u16::try_from(p.container_port).ok()?,
                    tcp: p.protocol.as_deref().unwrap_or("TCP") == "TCP",
                })
            })
            .collect();
        Self {
            meta: (&pod.metadata).into(),
            addresses,
            node: spec.and_then(|s| s.node_name.as_deref()).map(Into::into),
            service_account: spec
                .and_then(|s| s.service_account_name.as_deref())
                .unwrap_or("default")
                .into(),
            host_network: spec.and_then(|s| s.host_network).unwrap_or_default(),
            ports,
            workload: workload_name(pod).into(),
            ended: status
                .and_then(|s| s.phase.as_deref())
                .is_some_and(|phase| phase == "Succeeded" || phase == "Failed"),
            hostname: spec.and_then(|s| s.hostname.as_deref()).map(Into::into),
            subdomain: spec.and_then(|s| s.subdomain.as_deref()).map(Into::into),
        }
    }
}

/// Name of what made the pod: a ReplicaSet `x-<hash>` stands for the Deployment `x`.
fn workload_name(pod: &v1::Pod) -> String {
    let name = pod
        .metadata
        .name
        .clone()
        .or_else(|| pod.metadata.generate_name.clone())
        .unwrap_or_default();
    let owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.into_iter().find(|o| o.controller == Some(true)) else {
        return name;
    };
    let hash = pod.metadata.labels.as_ref().and_then(|l| l.get("pod-template-hash"));
    match (owner.kind.as_str(), hash) {
        ("ReplicaSet", Some(hash)) => owner
            .name
            .strip_suffix(&format!("-{hash}"))
            .map_or_else(|| owner.name.clone(), str::to_owned),
        _ => owner.name.clone(),
    }
}

/// Port of the pod that a service port leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// The same number as the service's port.
    Same,
    /// A number.
    Number(u16),
    /// The container port of that name.
    Name(String),
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; empty if it has none.
    pub name: String,
    /// Number.
    pub port: u16,
    /// Where it leads.
    pub target: TargetPort,
    /// `TCP`, `UDP`, `SCTP`.
    pub transport: String,
    /// Protocol that the service declares.
    pub app_protocol: Option<String>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Name, labels, annotations.
    pub meta: Meta,
    /// Its cluster addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it has no cluster address on purpose.
    pub headless: bool,
    /// Name that it stands for (type ExternalName).
    pub external_name: Option<String>,
    /// Labels of its pods.
    pub selector: BTreeMap<String, String>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Whether endpoints that are not ready count.
    pub publish_not_ready: bool,
    /// Whether only endpoints of the client's node are used.
    pub node_local: bool,
    /// Preference of localities (`PreferClose`, …).
    pub traffic_distribution: Option<String>,
    /// Addresses outside the cluster (external IPs and load balancers).
    pub external_addresses: Vec<String>,
}

impl From<&v1::Service> for Service {
    fn from(service: &v1::Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let mut texts = spec.cluster_ips.unwrap_or_default();
        if texts.is_empty() {
            texts.extend(spec.cluster_ip);
        }
        let external = spec.type_.as_deref() == Some("ExternalName");
        let balancers = service
            .status
            .as_ref()
            .and_then(|s| s.load_balancer.as_ref())
            .and_then(|lb| lb.ingress.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|i| i.ip.clone().or_else(|| i.hostname.clone()));
        Self {
            meta: (&service.metadata).into(),
            headless: !external && texts.iter().any(|ip| ip == "None"),
            addresses: texts.iter().filter_map(|ip| ip.parse().ok()).collect(),
            external_name: spec.external_name.filter(|_| external),
            selector: spec.selector.unwrap_or_default(),
            ports: spec
                .ports
                .unwrap_or_default()
                .into_iter()
                .filter_map(service_port)
                .collect(),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
            node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            traffic_distribution: spec.traffic_distribution,
            external_addresses: spec
                .external_ips
                .unwrap_or_default()
                .into_iter()
                .chain(balancers)
                .collect(),
        }
    }
}

fn service_port(port: v1::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.unwrap_or_default(),
        port: u16::try_from(port.port).ok()?,
        target: match port.target_port {
            None => TargetPort::Same,
            Some(IntOrString::Int(0)) => TargetPort::Same,
            Some(IntOrString::Int(number)) => TargetPort::Number(u16::try_from(number).ok()?),
            Some(IntOrString::String(name)) => match name.parse() {
                Ok(number) => TargetPort::Number(number),
                Err(_) => TargetPort::Name(name),
            },
        },
        transport: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
        app_protocol: port.app_protocol,
    })
}

/// A port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Name of the service's port.
    pub name: String,
    /// Number at the endpoints.
    pub port: u16,
}

/// An endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Addresses, as written.
    pub addresses: Vec<String>,
    /// Ready to serve; absent means yes.
    pub ready: Option<bool>,
    /// Serving, perhaps while it ends.
    pub serving: Option<bool>,
    /// Ending.
    pub terminating: bool,
    /// The pod behind it, by namespace and name.
    pub pod: Option<(Arc<str>, Arc<str>)>,
    /// Node it runs on.
    pub node: Option<Arc<str>>,
    /// Host name.
    pub hostname: Option<Arc<str>>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSlice {
    /// Name and labels.
    pub meta: Meta,
    /// Service it belongs to.
    pub service: Option<Arc<str>>,
    /// Whether its addresses are names.
    pub names: bool,
    /// Ports.
    pub ports: Vec<SlicePort>,
    /// Endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

impl From<&discovery::EndpointSlice> for EndpointSlice {
    fn from(slice: &discovery::EndpointSlice) -> Self {
        let meta = Meta::from(&slice.metadata);
        let service = meta
            .labels
            .get(api::names::label::SERVICE_NAME)
            .map(|name| name.as_str().into());
        Self {
            service,
            names: slice.address_type == "FQDN",
            ports: slice
                .ports
                .iter()
                .flatten()
                .filter_map(|p| {
                    Some(SlicePort {
                        name: p.name.clone().unwrap_or_default(),
                        port: u16::try_from(p.port?).ok()?,
                    })
                })
                .collect(),
            endpoints: slice
                .endpoints
                .iter()
                .map(|e| {
                    let conditions = e.conditions.as_ref();
                    let pod = e.target_ref.as_ref().filter(|r| r.kind.as_deref() == Some("Pod"));
                    SliceEndpoint {
                        addresses: e.addresses.clone(),
                        ready: conditions.and_then(|c| c.ready),
                        serving: conditions.and_then(|c| c.serving),
                        terminating: conditions.and_then(|c| c.terminating).unwrap_or_default(),
                        pod: pod.map(|r| {
                            let namespace = r.namespace.as_deref().unwrap_or(&meta.namespace);
                            (namespace.into(), r.name.as_deref().unwrap_or_default().into())
                        }),
                        node: e.node_name.as_deref().map(Into::into),
                        hostname: e.hostname.as_deref().map(Into::into),
                    }
                })
                .collect(),
            meta,
        }
    }
}

/// A Secret. Its content never shows in debug output.
#[derive(Clone, PartialEq)]
pub struct Secret {
    /// Name and labels.
    pub meta: Meta,
    /// Content by key.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("meta", &self.meta)
            .field("keys", &self.data.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl From<&v1::Secret> for Secret {
    fn from(secret: &v1::Secret) -> Self {
        let mut data: BTreeMap<String, Vec<u8>> = secret
            .data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.0.clone()))
            .collect();
        data.extend(
            secret
                .string_data
                .iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.clone().into_bytes())),
        );
        Self {
            meta: (&secret.metadata).into(),
            data,
        }
    }
}

/// A ConfigMap.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigMap {
    /// Name and labels.
    pub meta: Meta,
    /// Content by key.
    pub data: BTreeMap<String, String>,
}

impl From<&v1::ConfigMap> for ConfigMap {
    fn from(map: &v1::ConfigMap) -> Self {
        Self {
            meta: (&map.metadata).into(),
            data: map.data.clone().unwrap_or_default(),
        }
    }
}
