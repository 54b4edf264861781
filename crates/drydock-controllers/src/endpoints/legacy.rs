//! Endpoints, the older form that `kubectl get endpoints` shows.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::Endpoint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Family, endpoints};

const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

/// Whether this controller made the Endpoints.
pub(crate) fn is_ours(endpoints: &Endpoints) -> bool {
    endpoints
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY))
        .is_some_and(|by| by == MANAGER)
}

/// The Endpoints object of a Service as it is to be, or `None` if it is so already.
#[must_use]
pub(crate) fn decide(service: &Service, pods: &[&Pod], existing: Option<&Endpoints>) -> Option<Endpoints> {
    let family = *Family::of(service).first()?;
    let subsets: Vec<_> = endpoints(service, pods, family)
        .into_iter()
        .filter_map(|(ports, members)| {
            let port = |(name, port, protocol, app_protocol): &(Option<String>, Option<i32>, _, _)| EndpointPort {
                name: name.clone().filter(|name| !name.is_empty()),
                port: port.unwrap_or_default(),
                protocol: Option::clone(protocol),
                app_protocol: Option::clone(app_protocol),
            };
            let of = |ready: bool| -> Option<Vec<EndpointAddress>> {
                let conditions = |endpoint: &Endpoint| endpoint.conditions.clone().unwrap_or_default();
                // An ending pod is in neither list.
                let wanted = |endpoint: &&Endpoint| {
                    let conditions = conditions(endpoint);
                    (conditions.ready == Some(true)) == ready && (ready || conditions.terminating != Some(true))
                };
                let list: Vec<_> = members.iter().filter(wanted).map(address).collect();
                (!list.is_empty()).then_some(list)
            };
            let (addresses, not_ready) = (of(true), of(false));
            (addresses.is_some() || not_ready.is_some()).then(|| EndpointSubset {
                addresses,
                not_ready_addresses: not_ready,
                ports: Some(ports.iter().map(port).collect()),
            })
        })
        .collect();

    let mut labels: BTreeMap<_, _> = service.metadata.labels.clone().unwrap_or_default();
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    let mut made = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..Default::default()
        },
        subsets: None,
    });
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    made.metadata.labels = Some(labels);
    made.subsets = (!subsets.is_empty()).then_some(subsets);
    (existing != Some(&made)).then_some(made)
}

fn address(endpoint: &Endpoint) -> EndpointAddress {
    EndpointAddress {
        ip: endpoint.addresses.first().cloned().unwrap_or_default(),
        hostname: endpoint.hostname.clone(),
        node_name: endpoint.node_name.clone(),
        target_ref: endpoint.target_ref.clone(),
    }
}
