//! Services and endpoints that ServiceEntries and WorkloadEntries define.

use std::sync::Arc;

use api::names::label;
use api::networking::{ServiceEntry, WorkloadEntry};

use super::{selects, workload_of_pod};
use crate::key::ServiceKey;
use crate::object::{Config, TargetPort};
use crate::protocol::Protocol;
use crate::service::{Address, Endpoint, Health, Locality, Port, Registry, Resolution, Service, Workload};
use crate::store::Stored;
use crate::visibility::Visibility;

type Entry = Config<ServiceEntry>;

/// The ServiceEntries of that host in that namespace, older first.
pub(super) fn of_host<'a>(stored: &'a Stored, key: &ServiceKey) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
    let mut entries: Vec<&Arc<Entry>> = stored
        .entries_of_host(key)
        .filter_map(|name| stored.snapshot.service_entries.get(&key.namespace, name))
        .collect();
    entries.sort_by(|a, b| a.meta.age_order(&b.meta));
    entries.into_iter()
}

pub(super) fn service(stored: &Stored, entry: &Entry, key: &ServiceKey) -> Service {
    let spec = &entry.spec;
    let resolution = match spec.resolution.as_deref() {
        Some("STATIC") => Resolution::Endpoints,
        Some("DNS") => Resolution::Dns,
        Some("DNS_ROUND_ROBIN") => Resolution::DnsRoundRobin,
        Some("DYNAMIC_DNS") => Resolution::DynamicDns,
        _ => Resolution::Passthrough,
    };
    Service {
        key: key.clone(),
        name: key.host.clone(),
        registry: Registry::External,
        created: entry.meta.created,
        labels: entry.meta.labels.clone(),
        ports: spec
            .ports
            .iter()
            .filter_map(|p| {
                Some(Port {
                    name: p.name.clone(),
                    number: u16::try_from(p.number.0).ok()?,
                    protocol: Protocol::parse(&p.protocol),
                    target: match p.target_port {
                        Some(number) if number.0 != 0 => TargetPort::Number(u16::try_from(number.0).ok()?),
                        _ => TargetPort::Same,
                    },
                })
            })
            .collect(),
        addresses: addresses(entry, &key.host),
        resolution,
        external: spec.location.as_deref() != Some("MESH_INTERNAL"),
        headless: false,
        visibility: Visibility::parse(
            &spec.export_to,
            &stored.snapshot.mesh.default_service_export_to,
            &key.namespace,
        ),
        alias_of: None,
        selector: spec
            .workload_selector
            .as_ref()
            .map(|s| s.labels.clone())
            .unwrap_or_default(),
        subject_alt_names: spec.subject_alt_names.clone(),
        node_local: false,
        traffic_distribution: entry
            .meta
            .annotations
            .get(api::names::annotation::TRAFFIC_DISTRIBUTION)
            .cloned(),
        external_addresses: Vec::new(),
    }
}

/// Addresses of the spec, else those that a controller allocated.
fn addresses(entry: &Entry, host: &str) -> Vec<String> {
    if !entry.spec.addresses.is_empty() {
        return entry.spec.addresses.clone();
    }
    let allocated = entry
        .status
        .as_ref()
        .and_then(|s| s.get("addresses"))
        .and_then(|a| a.as_array());
    allocated
        .into_iter()
        .flatten()
        .filter(|a| a.get("host").and_then(|h| h.as_str()).is_none_or(|h| h == host))
        .filter_map(|a| a.get("value")?.as_str().map(str::to_owned))
        .collect()
}

pub(super) fn endpoints(stored: &Stored, entry: &Entry, key: &ServiceKey, list: &mut Vec<Endpoint>) {
    let spec = &entry.spec;
    let namespace = &entry.meta.namespace;
    match &spec.workload_selector {
        Some(selector) => {
            for pod in stored.snapshot.pods.in_namespace(namespace) {
                if pod.ended || pod.addresses.is_empty() || !selects(&selector.labels, &pod.meta.labels) {
                    continue;
                }
                let workload = Arc::new(workload_of_pod(stored, pod));
                let address = Address::Ip(pod.addresses[0]);
                push(
                    spec,
                    &WorkloadEntry::default(),
                    &address,
                    &workload,
                    Health::Healthy,
                    list,
                );
            }
            for workload_entry in stored.snapshot.workload_entries.in_namespace(namespace) {
                if selects(&selector.labels, &workload_entry.spec.labels) {
                    push_entry(
                        stored,
                        spec,
                        &workload_entry.spec,
                        namespace,
                        &workload_entry.meta.name,
                        list,
                    );
                }
            }
        }
        None if spec.endpoints.is_empty() => {
            if matches!(spec.resolution.as_deref(), Some("DNS" | "DNS_ROUND_ROBIN")) {
                let itself = WorkloadEntry {
                    address: key.host.to_string(),
                    ..WorkloadEntry::default()
                };
                push_entry(stored, spec, &itself, namespace, &entry.meta.name, list);
            }
        }
        None => {
            for (index, endpoint) in spec.endpoints.iter().enumerate() {
                let name = format!("{}-{index}", entry.meta.name);
                push_entry(stored, spec, endpoint, namespace, &name, list);
            }
        }
    }
}

fn push_entry(
    stored: &Stored,
    spec: &ServiceEntry,
    entry: &WorkloadEntry,
    namespace: &Arc<str>,
    name: &str,
    list: &mut Vec<Endpoint>,
) {
    let Some(address) = address(&entry.address) else { return };
    let workload = Arc::new(workload_of_entry(stored, entry, namespace, name));
    push(spec, entry, &address, &workload, Health::Unknown, list);
}

fn push(
    spec: &ServiceEntry,
    entry: &WorkloadEntry,
    address: &Address,
    workload: &Arc<Workload>,
    health: Health,
    list: &mut Vec<Endpoint>,
) {
    for port in &spec.ports {
        let number = entry
            .ports
            .get(&port.name)
            .or(port.target_port.as_ref())
            .unwrap_or(&port.number)
            .0;
        let Ok(number) = u16::try_from(number) else { continue };
        list.push(Endpoint {
            service_port: port.name.as_str().into(),
            address: address.clone(),
            port: if matches!(address, Address::Socket(_)) {
                0
            } else {
                number
            },
            health,
            weight: entry.weight.0,
            workload: workload.clone(),
        });
    }
}

/// Where an entry listens; none for an empty address (it is reached through its network's gateway).
pub(super) fn address(text: &str) -> Option<Address> {
    match (text.strip_prefix("unix://"), text.parse()) {
        _ if text.is_empty() => None,
        (Some(path), _) => Some(Address::Socket(path.to_owned())),
        (None, Ok(ip)) => Some(Address::Ip(ip)),
        (None, Err(_)) => Some(Address::Name(text.to_owned())),
    }
}

pub(super) fn workload_of_entry(stored: &Stored, entry: &WorkloadEntry, namespace: &str, name: &str) -> Workload {
    let mutual_tls = match entry.labels.get(label::TLS_MODE) {
        Some(mode) => mode == label::TLS_MODE_ISTIO,
        // An entry that says who it runs as has a proxy.
        None => !entry.service_account.is_empty(),
    };
    let locality = if entry.locality.is_empty() {
        entry
            .labels
            .get(label::LOCALITY)
            .map(|t| Locality::parse(t))
            .unwrap_or_default()
    } else {
        Locality::parse(&entry.locality)
    };
    let network = if entry.network.is_empty() {
        super::network_of(stored, &entry.labels)
    } else {
        entry.network.as_str().into()
    };
    Workload {
        name: name.into(),
        namespace: namespace.into(),
        labels: entry.labels.clone(),
        service_account: entry.service_account.as_str().into(),
        locality,
        network,
        node: None,
        cluster: stored.snapshot.cluster.clone(),
        hostname: None,
        mutual_tls,
    }
}
