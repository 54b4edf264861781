//! From objects to services and endpoints. One function call answers for one service, from what is stored now.

mod entries;
mod kubernetes;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::names::label;

use crate::key::ServiceKey;
use crate::object::Pod;
use crate::service::{Endpoint, Endpoints, Locality, Service, Workload};
use crate::store::Stored;

/// The service of that key, if an object defines it. A Kubernetes Service wins over a ServiceEntry of its namespace.
pub(crate) fn service(stored: &Stored, key: &ServiceKey) -> Option<Service> {
    if let Some(object) = kubernetes::object(stored, key) {
        return Some(kubernetes::service(stored, object, key));
    }
    entries::of_host(stored, key)
        .next()
        .map(|entry| entries::service(stored, entry, key))
}

/// The endpoints of the service of that key, from slices, entries and selected workloads.
pub(crate) fn endpoints(stored: &Stored, key: &ServiceKey) -> Endpoints {
    let mut list: Vec<Endpoint> = Vec::new();
    if let Some(object) = kubernetes::object(stored, key) {
        kubernetes::endpoints(stored, object, &mut list);
    }
    for entry in entries::of_host(stored, key) {
        entries::endpoints(stored, entry, key, &mut list);
    }
    Endpoints::new(list)
}

/// Host name of a Kubernetes Service.
pub(crate) fn host_of(name: &str, namespace: &str, domain: &str) -> String {
    format!("{name}.{namespace}.svc.{domain}")
}

/// Whether all labels of a selector are there; an empty selector selects nothing.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn workload_of_pod(stored: &Stored, pod: &Pod) -> Workload {
    let labels = &pod.meta.labels;
    let locality = match labels.get(label::LOCALITY) {
        Some(text) if !text.is_empty() => Locality::parse(text),
        _ => pod
            .node
            .as_ref()
            .and_then(|n| stored.snapshot.node(n))
            .map(|n| Locality::of_node(&n.meta.labels))
            .unwrap_or_default(),
    };
    Workload {
        name: pod.workload.clone(),
        namespace: pod.meta.namespace.clone(),
        labels: labels.clone(),
        service_account: pod.service_account.clone(),
        locality,
        network: network_of(stored, labels),
        node: pod.node.clone(),
        cluster: stored.snapshot.cluster.clone(),
        hostname: pod
            .subdomain
            .as_ref()
            .map(|_| pod.hostname.clone().unwrap_or_else(|| pod.meta.name.clone())),
        mutual_tls: labels
            .get(label::TLS_MODE)
            .is_some_and(|mode| mode == label::TLS_MODE_ISTIO),
    }
}

/// Network of a workload: its own label, else that of the namespace of the control plane.
fn network_of(stored: &Stored, labels: &BTreeMap<String, String>) -> Arc<str> {
    let system = stored.snapshot.namespace(&stored.snapshot.mesh.root_namespace);
    labels
        .get(label::NETWORK)
        .or_else(|| system.and_then(|n| n.meta.labels.get(label::NETWORK)))
        .map(|n| n.as_str().into())
        .unwrap_or_default()
}
