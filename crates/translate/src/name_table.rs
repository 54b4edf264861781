//! Names for the agent's resolver (NDS): hosts with their addresses, and the pods of headless services.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh::{Address, Health, Registry, Resolution, Service};
use xds::istio::networking::nds::v1::{NameTable, name_table::NameInfo};
use xds::resource::{Resource, ResourceSet};

use crate::client::Client;
use crate::graph::Cx;
use crate::proxy::ProxyClass;

pub(crate) fn of_class(cx: &mut Cx<'_>, class: &ProxyClass) -> Arc<ResourceSet> {
    if !class.dns_capture {
        return Arc::default();
    }
    let client = Client::scoped(cx, class);
    let scope = cx.scope_of(client.scope());
    let mut table: BTreeMap<String, NameInfo> = BTreeMap::new();
    for service in scope.egress.iter().flat_map(|e| e.services.iter()) {
        let mut addresses: Vec<String> = service
            .addresses
            .iter()
            .filter_map(|a| a.parse::<IpAddr>().ok())
            .filter(|ip| (ip.is_ipv4() && class.ipv4) || (ip.is_ipv6() && class.ipv6))
            .map(|ip| ip.to_string())
            .collect();
        if service.addresses.is_empty() && service.resolution == Resolution::Passthrough && !service.ports.is_empty() {
            addresses = pods(cx, service, &mut table);
        }
        if addresses.is_empty() {
            continue;
        }
        let info = info(service, &service.name, addresses);
        // A host of Kubernetes is not overruled by others.
        match table.get(&*service.key.host) {
            Some(other) if other.registry == "Kubernetes" => {}
            _ => drop(table.insert(service.key.host.to_string(), info)),
        }
    }
    let message = NameTable { table };
    Arc::new(ResourceSet::new([Arc::new(Resource::encode("", &message))]))
}

fn info(service: &Service, short: &str, ips: Vec<String>) -> NameInfo {
    let kubernetes = service.registry == Registry::Kubernetes;
    NameInfo {
        ips,
        registry: if kubernetes { "Kubernetes" } else { "External" }.to_owned(),
        shortname: if kubernetes { short.to_owned() } else { String::new() },
        namespace: if kubernetes {
            service.key.namespace.to_string()
        } else {
            String::new()
        },
    }
}

/// Addresses of a headless service's pods; those with a host name get a name of their own.
fn pods(cx: &mut Cx<'_>, service: &Service, table: &mut BTreeMap<String, NameInfo>) -> Vec<String> {
    let endpoints = cx.endpoints(&service.key);
    let mut addresses: Vec<String> = Vec::new();
    let mut named: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for endpoint in endpoints.list.iter().filter(|e| e.health == Health::Healthy) {
        let Address::Ip(ip) = endpoint.address else { continue };
        let ip = ip.to_string();
        if addresses.contains(&ip) {
            continue;
        }
        if let (Some(hostname), Some((first, rest))) = (&endpoint.workload.hostname, service.key.host.split_once('.')) {
            let short = format!("{hostname}.{first}");
            named
                .entry(format!("{short}.{rest}"))
                .or_insert_with(|| (short, Vec::new()))
                .1
                .push(ip.clone());
        }
        addresses.push(ip);
    }
    for (host, (short, ips)) in named {
        table.insert(host, info(service, &short, ips));
    }
    addresses
}
