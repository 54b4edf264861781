//! Service entries and workload entries.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::networking::{ServiceEntry, WorkloadEntry};

use super::field::{Problems, check_cidr, check_export_to, check_host, check_port, check_port_number};

pub(super) fn check(entry: &ServiceEntry, problems: &mut Problems) {
    problems.require(
        !entry.hosts.is_empty(),
        "spec.hosts",
        "service entry must have at least one host",
    );
    for (index, host) in entry.hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        problems.require(host != "*", &field, "hostname cannot be wildcard");
        check_host(problems, &field, host);
    }
    for (index, address) in entry.addresses.iter().enumerate() {
        check_cidr(problems, &format!("spec.addresses[{index}]"), address);
    }
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in entry.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        check_port(problems, &field, port);
        problems.require(
            !port.name.is_empty(),
            format!("{field}.name"),
            "a port name is required",
        );
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
    let resolution = entry.resolution.as_deref().unwrap_or("NONE");
    let ranges = entry.addresses.iter().any(|address| address.contains('/'));
    problems.require(
        !ranges || matches!(resolution, "NONE" | "STATIC"),
        "spec.addresses",
        "CIDR addresses are allowed only for NONE/STATIC resolution types",
    );
    let selected = entry.workload_selector.is_some();
    problems.require(
        !selected || entry.endpoints.is_empty(),
        "spec",
        "only one of WorkloadSelector or Endpoints can be set",
    );
    match resolution {
        "NONE" => problems.require(
            entry.endpoints.is_empty(),
            "spec.endpoints",
            "NONE mode cannot set endpoints",
        ),
        "STATIC" => {
            problems.require(
                selected || !entry.endpoints.is_empty(),
                "spec.endpoints",
                "endpoints must be provided if service entry resolution mode is STATIC",
            );
        }
        "DNS" => {
            let wildcard = entry.hosts.iter().any(|host| host.contains('*'));
            problems.require(
                !entry.endpoints.is_empty() || !wildcard,
                "spec.hosts",
                "hosts must be exact names if resolution is DNS and no endpoints are provided",
            );
        }
        "DNS_ROUND_ROBIN" => {
            problems.require(
                entry.endpoints.len() <= 1,
                "spec.endpoints",
                "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
            );
        }
        "DYNAMIC_DNS" => {}
        other => problems.add("spec.resolution", format!("unknown resolution {other:?}")),
    }
    let by_name = matches!(resolution, "DNS" | "DNS_ROUND_ROBIN");
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        check_endpoint(&format!("spec.endpoints[{index}]"), endpoint, by_name, problems);
    }
    check_export_to(problems, &entry.export_to);
}

pub(super) fn check_workload(entry: &WorkloadEntry, problems: &mut Problems) {
    check_endpoint("spec", entry, true, problems);
}

/// The template of a group: its members bring their addresses.
pub(super) fn check_template(field: &str, template: &WorkloadEntry, problems: &mut Problems) {
    if template.address.is_empty() {
        check_ports(field, template, problems);
    } else {
        check_endpoint(field, template, true, problems);
    }
}

fn check_endpoint(field: &str, endpoint: &WorkloadEntry, by_name: bool, problems: &mut Problems) {
    let place = format!("{field}.address");
    match endpoint.address.strip_prefix("unix://") {
        Some(path) => {
            problems.require(
                path.starts_with(['/', '@']),
                &place,
                "UDS must be an absolute path or abstract socket",
            );
            problems.require(!path.ends_with('/'), &place, "UDS may not be a dir");
            problems.require(
                endpoint.ports.is_empty(),
                format!("{field}.ports"),
                "UDS may not include ports",
            );
        }
        None if endpoint.address.is_empty() => {
            problems.require(
                !endpoint.network.is_empty(),
                place,
                "Address is required, unless a network is set",
            );
        }
        None if endpoint.address.parse::<IpAddr>().is_ok() => {}
        None => {
            problems.require(
                by_name,
                &place,
                format!("endpoint address {:?} is not a valid IP address", endpoint.address),
            );
            problems.require(
                !endpoint.address.contains('*'),
                &place,
                "an endpoint's address cannot be a wildcard",
            );
            check_host(problems, &place, &endpoint.address);
        }
    }
    check_ports(field, endpoint, problems);
}

fn check_ports(field: &str, endpoint: &WorkloadEntry, problems: &mut Problems) {
    for (name, number) in &endpoint.ports {
        let field = format!("{field}.ports[{name}]");
        let good = name.len() < 63
            && !name.starts_with('-')
            && !name.ends_with('-')
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        problems.require(good, &field, "port name must be valid");
        check_port_number(problems, &field, number.0);
    }
}
