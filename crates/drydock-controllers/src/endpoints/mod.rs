//! EndpointSlices (and the older Endpoints): which pods stand behind a Service.

mod controller;
mod legacy;
mod mirror;
mod ports;
mod slices;
#[cfg(test)]
mod tests;

pub use controller::start;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};

use crate::{meta, pods};

/// One address family of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    fn of(service: &Service) -> Vec<Family> {
        let families = service
            .spec
            .as_ref()
            .and_then(|spec| spec.ip_families.as_deref())
            .unwrap_or_default();
        let named = |family: &String| if family == "IPv6" { Family::V6 } else { Family::V4 };
        if families.is_empty() {
            vec![Family::V4]
        } else {
            families.iter().map(named).collect()
        }
    }

    fn has(self, address: &str) -> bool {
        address.contains(':') == (self == Family::V6)
    }
}

/// Ports in a comparable form, so that endpoints with the same ports share a slice.
pub(crate) type Ports = Vec<(Option<String>, Option<i32>, Option<String>, Option<String>)>;

pub(crate) fn to_api(ports: &Ports) -> Vec<EndpointPort> {
    ports
        .iter()
        .cloned()
        .map(|(name, port, protocol, app_protocol)| EndpointPort {
            name,
            port,
            protocol,
            app_protocol,
        })
        .collect()
}

/// The endpoints of a Service in one family, grouped by their ports (which differ when a port is named by the pods).
pub(crate) fn endpoints(service: &Service, pods: &[&Pod], family: Family) -> BTreeMap<Ports, Vec<Endpoint>> {
    let mut groups: BTreeMap<Ports, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods {
        let Some(address) = address(pod, family) else { continue };
        if pods::is_finished(pod) {
            continue;
        }
        let ports = ports::of(service, pod);
        if ports.is_empty()
            && service
                .spec
                .as_ref()
                .is_some_and(|spec| spec.ports.iter().flatten().next().is_some())
        {
            continue; // has ports, but this pod serves none of them
        }
        groups.entry(ports).or_default().push(endpoint(service, pod, address));
    }
    for group in groups.values_mut() {
        group.sort_by(|a, b| target(a).cmp(&target(b)));
    }
    groups
}

fn target(endpoint: &Endpoint) -> Option<&str> {
    endpoint.target_ref.as_ref()?.name.as_deref()
}

fn address(pod: &Pod, family: Family) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| ip.ip.as_str())
        .chain(status.pod_ip.as_deref());
    all.filter(|ip| !ip.is_empty())
        .find(|ip| family.has(ip))
        .map(str::to_owned)
}

fn endpoint(service: &Service, pod: &Pod, address: String) -> Endpoint {
    let spec = service.spec.as_ref();
    let publish_all = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let serving = pods::is_ready(pod);
    let terminating = meta::is_terminating(&pod.metadata);
    let pod_spec = pod.spec.as_ref();
    let hostname = pod_spec
        .filter(|pod| pod.subdomain == service.metadata.name && pod.subdomain.is_some())
        .and_then(|pod| pod.hostname.clone())
        .filter(|name| !name.is_empty());
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publish_all || (serving && !terminating)),
            serving: Some(publish_all || serving),
            terminating: Some(terminating),
        }),
        hostname,
        node_name: pod_spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
        ..Default::default()
    }
}
