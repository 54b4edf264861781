//! Services and endpoints that Kubernetes objects define.

use std::sync::Arc;

use api::names::{annotation, label};

use super::{selects, workload_of_pod};
use crate::key::ServiceKey;
use crate::object::{self, SliceEndpoint, TargetPort};
use crate::protocol::Protocol;
use crate::service::{Address, Endpoint, Health, Port, Registry, Resolution, Service, Workload};
use crate::store::Stored;
use crate::visibility::Visibility;

/// The Service whose host this is.
pub(super) fn object<'a>(stored: &'a Stored, key: &ServiceKey) -> Option<&'a Arc<object::Service>> {
    let suffix = format!(".{}.svc.{}", key.namespace, stored.snapshot.domain);
    stored.services.get(&key.namespace, key.host.strip_suffix(&suffix)?)
}

pub(super) fn service(stored: &Stored, object: &object::Service, key: &ServiceKey) -> Service {
    #[cfg(test)]
    assert!(!object.meta.labels.contains_key("panics"), "as the test wants it");
    let annotation = |name: &str| object.meta.annotations.get(name);
    let export: Vec<&str> = annotation(annotation::EXPORT_TO)
        .map(|t| t.split(',').collect())
        .unwrap_or_default();
    let resolution = match (&object.external_name, object.headless) {
        (Some(_), _) => Resolution::Alias,
        (None, true) => Resolution::Passthrough,
        (None, false) => Resolution::Endpoints,
    };
    let trust_domain = &stored.snapshot.mesh.trust_domain;
    let accounts = |name: &str| {
        annotation(name)
            .into_iter()
            .flat_map(|t| t.split(','))
            .map(str::trim)
            .filter(|t| !t.is_empty())
    };
    let mut subject_alt_names: Vec<String> = accounts(annotation::CANONICAL_SERVICE_ACCOUNTS)
        .map(str::to_owned)
        .collect();
    subject_alt_names.extend(
        accounts(annotation::KUBERNETES_SERVICE_ACCOUNTS)
            .map(|a| format!("spiffe://{trust_domain}/ns/{}/sa/{a}", object.meta.namespace)),
    );
    Service {
        key: key.clone(),
        name: object.meta.name.clone(),
        registry: Registry::Kubernetes,
        created: object.meta.created,
        labels: object.meta.labels.clone(),
        ports: object
            .ports
            .iter()
            .map(|p| Port {
                name: p.name.clone(),
                number: p.port,
                protocol: Protocol::of_kubernetes_port(p.port, &p.name, &p.transport, p.app_protocol.as_deref()),
                target: p.target.clone(),
            })
            .collect(),
        addresses: object.addresses.iter().map(ToString::to_string).collect(),
        resolution,
        external: object.external_name.is_some(),
        headless: object.headless,
        visibility: Visibility::parse(&export, &stored.snapshot.mesh.default_service_export_to, &key.namespace),
        alias_of: object.external_name.as_deref().map(Into::into),
        selector: object.selector.clone(),
        subject_alt_names,
        node_local: object.node_local,
        traffic_distribution: annotation(annotation::TRAFFIC_DISTRIBUTION)
            .cloned()
            .or_else(|| object.traffic_distribution.clone()),
        external_addresses: object.external_addresses.clone(),
    }
}

pub(super) fn endpoints(stored: &Stored, object: &object::Service, list: &mut Vec<Endpoint>) {
    let meta = &object.meta;
    for slice in stored
        .slices_of(&meta.namespace, &meta.name)
        .filter(|slice| !slice.names)
    {
        for endpoint in &slice.endpoints {
            let health = health(endpoint);
            let (workload, health) = match &endpoint.pod {
                None => (
                    Workload {
                        cluster: stored.snapshot.cluster.clone(),
                        ..Workload::default()
                    },
                    health,
                ),
                // The endpoint counts when its pod is known: without it nobody knows its identity.
                Some((namespace, name)) => match stored.snapshot.pod(namespace, name) {
                    None => continue,
                    Some(pod) => {
                        let draining = pod.meta.labels.contains_key(label::DRAINING);
                        (
                            workload_of_pod(stored, pod),
                            if draining { Health::Draining } else { health },
                        )
                    }
                },
            };
            let workload = Arc::new(workload);
            for port in &slice.ports {
                let service_port: Arc<str> = port.name.as_str().into();
                for address in endpoint.addresses.iter().filter_map(|a| a.parse().ok()) {
                    list.push(Endpoint {
                        service_port: service_port.clone(),
                        address: Address::Ip(address),
                        port: port.port,
                        health,
                        weight: 0,
                        workload: workload.clone(),
                    });
                }
            }
        }
    }
    selected_entries(stored, object, list);
}

fn health(endpoint: &SliceEndpoint) -> Health {
    match (endpoint.ready, endpoint.terminating) {
        (None | Some(true), _) => Health::Healthy,
        (Some(false), true) => Health::Terminating,
        (Some(false), false) => Health::Unhealthy,
    }
}

/// WorkloadEntries that the Service's selector matches are its endpoints too.
fn selected_entries(stored: &Stored, object: &object::Service, list: &mut Vec<Endpoint>) {
    for entry in stored.snapshot.workload_entries.in_namespace(&object.meta.namespace) {
        if !selects(&object.selector, &entry.spec.labels) {
            continue;
        }
        let workload = Arc::new(super::entries::workload_of_entry(
            stored,
            &entry.spec,
            &entry.meta.namespace,
            &entry.meta.name,
        ));
        let Some(address) = super::entries::address(&entry.spec.address) else {
            continue;
        };
        for port in &object.ports {
            let named = |name: &String| entry.spec.ports.get(name).map(|number| u16::try_from(number.0));
            let number = match (&port.target, named(&port.name)) {
                (_, Some(number)) => number,
                (TargetPort::Number(number), None) => Ok(*number),
                (TargetPort::Name(name), None) => match named(name) {
                    Some(number) => number,
                    None => continue,
                },
                (TargetPort::Same, None) => Ok(port.port),
            };
            let Ok(number) = number else { continue };
            list.push(Endpoint {
                service_port: port.name.as_str().into(),
                address: address.clone(),
                port: number,
                health: Health::Unknown,
                weight: entry.spec.weight.0,
                workload: workload.clone(),
            });
        }
    }
}
