//! Service entries and workload entries.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::networking::{Port, ServiceEntry, WorkloadEntry};
use serde_json::Value;

use super::field::{
    Exporter, Problems, check_cidr, check_export_to, check_host, check_labels, check_port_name, check_port_number,
    check_protocol, check_socket, is_http, is_tls,
};
use super::name;

/// Label of entries whose traffic goes through a waypoint.
const WAYPOINT: &str = "istio.io/use-waypoint";
/// Label of entries that get no address made up.
const AUTOALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";

pub(super) fn check(entry: &ServiceEntry, metadata: &Value, problems: &mut Problems) {
    let resolution = entry.resolution.as_deref().unwrap_or("NONE");
    hosts(entry, resolution, problems);
    for (index, address) in entry.addresses.iter().enumerate() {
        check_cidr(problems, &format!("spec.addresses[{index}]"), address);
    }
    let ranges = entry.addresses.iter().any(|address| address.contains('/'));
    problems.require(
        !ranges || matches!(resolution, "NONE" | "STATIC"),
        "spec.addresses",
        "CIDR addresses are allowed only for NONE/STATIC resolution types",
    );
    ports(entry, problems);
    let label = |name: &str| metadata["labels"][name].as_str().unwrap_or_default();
    let plain = |port: &&Port| matches!(port.protocol.as_str(), "" | "TCP");
    let allocated = resolution != "NONE" && !label(AUTOALLOCATE).eq_ignore_ascii_case("false");
    if entry.addresses.is_empty() && !allocated && entry.ports.iter().any(|port| plain(&port)) {
        problems.warn(
            "spec.addresses",
            "addresses are required for ports serving TCP (or unset) protocol when IP Autoallocation is not enabled",
        );
    }
    let selected = entry.workload_selector.as_ref();
    problems.require(
        selected.is_none() || entry.endpoints.is_empty(),
        "spec",
        "only one of WorkloadSelector or Endpoints can be set",
    );
    if selected.is_some_and(|selector| selector.labels.is_empty()) {
        problems.warn(
            "spec.workloadSelector",
            "has no labels, so it is for all workloads of the namespace",
        );
    }
    match resolution {
        "NONE" => {
            problems.require(
                entry.endpoints.is_empty(),
                "spec.endpoints",
                "NONE mode cannot set endpoints",
            );
            if selected.is_some() {
                problems.warn("spec.workloadSelector", "should not be set when resolution is NONE");
            }
        }
        "STATIC" => endpoints(entry, false, problems),
        "DNS" | "DNS_ROUND_ROBIN" => {
            problems.require(
                resolution == "DNS" || entry.endpoints.len() <= 1,
                "spec.endpoints",
                "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
            );
            problems.require(
                !entry.endpoints.is_empty() || entry.hosts.iter().all(|host| name::is_domain(host)),
                "spec.hosts",
                "hosts must be exact names if resolution is DNS and no endpoints are provided",
            );
            let of_connections =
                |port: &Port| !is_http(&port.protocol) && port.protocol != "UDP" && !port.protocol.is_empty();
            if !entry.addresses.is_empty() && entry.hosts.len() > 1 && entry.ports.iter().any(of_connections) {
                problems.warn(
                    "spec.hosts",
                    "an address and a port of TCP or TLS are for one host; the others have them, too",
                );
            }
            endpoints(entry, true, problems);
        }
        "DYNAMIC_DNS" => {
            let waypoint = label(WAYPOINT);
            let is_used = !waypoint.is_empty() && !waypoint.eq_ignore_ascii_case("none");
            dynamic(entry, is_used, problems);
        }
        other => problems.add("spec.resolution", format!("unknown resolution {other:?}")),
    }
    let told = |port: &Port| is_http(&port.protocol) || is_tls(&port.protocol);
    problems.require(
        resolution == "NONE" || entry.hosts.len() < 2 || entry.ports.iter().all(told),
        "spec.hosts",
        "multiple hosts provided with non-HTTP, non-TLS ports, which cannot tell them apart",
    );
    let of = metadata["namespace"].as_str().unwrap_or_default();
    check_export_to(problems, of, &entry.export_to, Exporter::ServiceEntry);
}

fn hosts(entry: &ServiceEntry, resolution: &str, problems: &mut Problems) {
    problems.require(
        !entry.hosts.is_empty(),
        "spec.hosts",
        "service entry must have at least one host",
    );
    for (index, host) in entry.hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        problems.require(host != "*", &field, "hostname cannot be wildcard");
        check_host(problems, &field, host);
        if host.starts_with('*') && !host.starts_with("*.") && resolution != "DYNAMIC_DNS" && host != "*" {
            problems.warn(&field, format!("{host:?}: a '*' should stand for whole labels"));
        }
    }
}

fn ports(entry: &ServiceEntry, problems: &mut Problems) {
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in entry.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        check_port_number(problems, &format!("{field}.number"), port.number.0);
        if let Some(target) = port.target_port.filter(|target| target.0 != 0) {
            check_port_number(problems, &format!("{field}.targetPort"), target.0);
        }
        check_protocol(problems, &format!("{field}.protocol"), &port.protocol);
        check_port_name(problems, &format!("{field}.name"), &port.name);
        problems.require(
            numbers.insert(port.number.0),
            format!("{field}.number"),
            "port number cannot be duplicated",
        );
        problems.require(
            names.insert(&port.name),
            format!("{field}.name"),
            "port name cannot be duplicated",
        );
    }
}

fn endpoints(entry: &ServiceEntry, by_name: bool, problems: &mut Problems) {
    let names: BTreeSet<&str> = entry.ports.iter().map(|port| port.name.as_str()).collect();
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        let field = format!("spec.endpoints[{index}]");
        check_endpoint(&field, endpoint, by_name, problems);
        for port in endpoint.ports.keys().filter(|port| !names.contains(port.as_str())) {
            problems.add(format!("{field}.ports[{port}]"), "is not defined by the service entry");
        }
        problems.require(
            !endpoint.address.starts_with("unix://") || (names.len() == 1 && !by_name),
            format!("{field}.address"),
            "a socket serves exactly one port, and its path is no name to look up",
        );
    }
}

/// Hosts that are looked up when they are asked for.
fn dynamic(entry: &ServiceEntry, by_waypoint: bool, problems: &mut Problems) {
    problems.require(
        entry.hosts.iter().all(|host| host.starts_with('*')),
        "spec.hosts",
        "hosts must begin with '*' if resolution is DYNAMIC_DNS",
    );
    problems.require(
        entry.addresses.is_empty() && entry.endpoints.is_empty(),
        "spec",
        "DYNAMIC_DNS mode cannot set addresses or endpoints",
    );
    for (index, port) in entry.ports.iter().enumerate() {
        let known = ["HTTP", "TLS", "GRPC", "HTTP2"];
        problems.require(
            known.iter().any(|known| known.eq_ignore_ascii_case(&port.protocol)),
            format!("spec.ports[{index}].protocol"),
            "DYNAMIC_DNS mode needs HTTP, TLS, GRPC or HTTP2",
        );
    }
    problems.require(
        !by_waypoint || entry.location.as_deref() != Some("MESH_INTERNAL"),
        "spec.location",
        "DYNAMIC_DNS mode through a waypoint is for MESH_EXTERNAL only",
    );
}

pub(super) fn check_workload(entry: &WorkloadEntry, problems: &mut Problems) {
    check_endpoint("spec", entry, true, problems);
}

fn check_endpoint(field: &str, endpoint: &WorkloadEntry, by_name: bool, problems: &mut Problems) {
    let place = format!("{field}.address");
    match endpoint.address.strip_prefix("unix://") {
        Some(path) => {
            check_socket(problems, &place, path);
            problems.require(
                endpoint.ports.is_empty(),
                format!("{field}.ports"),
                "UDS may not include ports",
            );
        }
        None if endpoint.address.is_empty() => {
            problems.require(
                !endpoint.network.is_empty(),
                &place,
                "Address is required, unless a network is set",
            );
            if !endpoint.network.is_empty() {
                problems.warn(&place, format!("is unset with network {:?}", endpoint.network));
            }
        }
        None if endpoint.address.parse::<IpAddr>().is_ok() => {}
        None => problems.require(
            by_name && name::is_domain(&endpoint.address),
            &place,
            format!(
                "endpoint address {:?} is not a valid IP address{}",
                endpoint.address,
                if by_name { " or host name" } else { "" }
            ),
        ),
    }
    for (name, number) in &endpoint.ports {
        let field = format!("{field}.ports[{name}]");
        check_port_name(problems, &field, name);
        check_port_number(problems, &field, number.0);
    }
    check_labels(problems, &format!("{field}.labels"), &endpoint.labels);
}
