//! Virtual services.

use std::net::IpAddr;

use api::networking::VirtualService;
use api::networking::virtual_service::{Destination, L4Match, RouteDestination, TlsMatch};
use serde_json::Value;

use super::field::{
    Exporter, Problems, check_cidr, check_domain, check_export_to, check_host, check_labels, check_port_number,
};
use super::name::Hosts;
use super::{http_route, name};

/// What proxies of gateways call a port of a service in their SNI: `outbound_.80_._.host`.
const GENERATED_SNI: &str = "outbound_";

pub(super) fn check(service: &VirtualService, spec: &Value, of: &str, problems: &mut Problems) {
    let delegated = service.hosts.is_empty();
    if delegated {
        // A route that others delegate to has no hosts.
        problems.require(
            service.tcp.is_empty() && service.tls.is_empty(),
            "spec.hosts",
            "a virtual service must have at least one host",
        );
        problems.require(
            service.gateways.is_empty(),
            "spec.gateways",
            "a virtual service without hosts is delegated to, and has no gateways",
        );
    }
    check_gateways("spec.gateways", &service.gateways, problems);
    let of_gateway = is_of_gateway(service);
    if !of_gateway {
        claims(service, problems);
    }
    hosts(service, of_gateway, problems);
    let routes = service.http.len() + service.tls.len() + service.tcp.len();
    problems.require(
        routes > 0,
        "spec",
        "http, tcp or tls must be provided in a virtual service",
    );
    for (index, route) in service.http.iter().enumerate() {
        let field = format!("spec.http[{index}]");
        http_route::check(&field, route, &spec["http"][index], delegated, problems);
    }
    let mut all = Hosts::default();
    service.hosts.iter().for_each(|host| all.add(host));
    for (index, route) in service.tls.iter().enumerate() {
        let field = format!("spec.tls[{index}]");
        problems.require(
            !route.matches.is_empty(),
            format!("{field}.match"),
            "a TLS route needs a match with sniHosts",
        );
        for (at, single) in route.matches.iter().enumerate() {
            tls_match(&format!("{field}.match[{at}]"), single, &all, of_gateway, problems);
        }
        destinations(&field, &route.route, problems);
    }
    for (index, route) in service.tcp.iter().enumerate() {
        let field = format!("spec.tcp[{index}]");
        for (at, single) in route.matches.iter().enumerate() {
            tcp_match(&format!("{field}.match[{at}]"), single, problems);
        }
        destinations(&field, &route.route, problems);
    }
    check_export_to(problems, of, &service.export_to, Exporter::Other);
}

/// Is it for gateways alone?
fn is_of_gateway(service: &VirtualService) -> bool {
    !service.gateways.is_empty() && service.gateways.iter().all(|gateway| gateway != "mesh")
}

/// Names of gateways, `namespace/name` or a name alone.
pub(super) fn check_gateways(field: &str, gateways: &[String], problems: &mut Problems) {
    for gateway in gateways {
        match gateway.split_once('/') {
            None => {
                if let Some((name, rest)) = gateway.split_once('.') {
                    let namespace = rest.split('.').next().unwrap_or_default();
                    problems.warn(
                        field,
                        format!("{gateway:?} is the old form of a gateway's name; prefer \"{namespace}/{name}\""),
                    );
                }
                check_domain(problems, field, gateway);
            }
            Some((namespace, gateway)) => problems.require(
                name::is_label(namespace) && name::is_label(gateway),
                field,
                format!("\"{namespace}/{gateway}\" is no namespace and name of a gateway"),
            ),
        }
    }
}

/// Only gateways validate tokens before they route.
fn claims(service: &VirtualService, problems: &mut Problems) {
    for (index, route) in service.http.iter().enumerate() {
        for single in &route.matches {
            let names = single.headers.keys().chain(single.without_headers.keys());
            for claim in names.filter(|name| http_route::is_claim(name)) {
                problems.add(
                    format!("spec.http[{index}].match.headers"),
                    format!("routing by the claims of a token ({claim}) is for gateways only"),
                );
            }
        }
    }
}

fn hosts(service: &VirtualService, of_gateway: bool, problems: &mut Problems) {
    let by_sni = service
        .tls
        .iter()
        .any(|route| route.matches.iter().any(|single| !single.sni_hosts.is_empty()));
    let mut earlier = Hosts::default();
    for (index, host) in service.hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        if host.parse::<IpAddr>().is_err() && !(of_gateway && by_sni && is_generated(host)) {
            check_host(problems, &field, host);
        }
        problems.require(
            of_gateway || host != "*",
            &field,
            "wildcard host * is not allowed for virtual services bound to the mesh gateway",
        );
        // A host that another one stands for as well.
        if let Some(earlier) = earlier.overlapping(host) {
            problems.add(&field, format!("duplicate host {host:?}: {earlier:?} is there, too"));
        }
        earlier.add(host);
    }
}

fn is_generated(host: &str) -> bool {
    let parts: Vec<&str> = host.split('_').collect();
    let [_, port, _, name, ..] = parts.as_slice() else {
        return false;
    };
    host.len() <= 255
        && host.starts_with(GENERATED_SNI)
        && port.contains(|c: char| c.is_ascii_digit())
        && name.contains(|c: char| c.is_ascii_alphabetic())
}

fn tls_match(field: &str, single: &TlsMatch, hosts: &Hosts<'_>, of_gateway: bool, problems: &mut Problems) {
    problems.require(
        !single.sni_hosts.is_empty(),
        format!("{field}.sniHosts"),
        "at least one SNI host is required",
    );
    for host in &single.sni_hosts {
        let field = format!("{field}.sniHosts");
        if host.parse::<IpAddr>().is_ok() {
            problems.warn(
                &field,
                format!("{host}: an SNI is no address, and most clients send none"),
            );
            continue;
        }
        if !(of_gateway && is_generated(host)) {
            check_host(problems, &field, host);
        }
        problems.require(
            hosts.covers(host),
            &field,
            format!("{host:?} is none of the hosts of the virtual service"),
        );
    }
    for subnet in &single.destination_subnets {
        check_cidr(problems, &format!("{field}.destinationSubnets"), subnet);
    }
    if let Some(port) = single.port.filter(|port| port.0 != 0) {
        check_port_number(problems, &format!("{field}.port"), port.0);
    }
    check_labels(problems, &format!("{field}.sourceLabels"), &single.source_labels);
    check_gateways(&format!("{field}.gateways"), &single.gateways, problems);
}

fn tcp_match(field: &str, single: &L4Match, problems: &mut Problems) {
    for subnet in &single.destination_subnets {
        check_cidr(problems, &format!("{field}.destinationSubnets"), subnet);
    }
    if let Some(port) = single.port.filter(|port| port.0 != 0) {
        check_port_number(problems, &format!("{field}.port"), port.0);
    }
    check_labels(problems, &format!("{field}.sourceLabels"), &single.source_labels);
    check_gateways(&format!("{field}.gateways"), &single.gateways, problems);
}

fn destinations(field: &str, routes: &[RouteDestination], problems: &mut Problems) {
    problems.require(!routes.is_empty(), format!("{field}.route"), "a route is required");
    check_weights(field, routes.iter().map(|route| route.weight.0), problems);
    for (index, route) in routes.iter().enumerate() {
        check_required_destination(
            &format!("{field}.route[{index}].destination"),
            route.destination.as_ref(),
            problems,
        );
    }
}

pub(super) fn check_weights(field: &str, weights: impl Iterator<Item = i32>, problems: &mut Problems) {
    let weights: Vec<i32> = weights.collect();
    problems.require(
        weights.iter().all(|weight| *weight >= 0),
        format!("{field}.route"),
        "a weight cannot be negative",
    );
    let none = weights.len() > 1 && weights.iter().map(|weight| i64::from(*weight)).sum::<i64>() == 0;
    problems.require(!none, format!("{field}.route"), "total destination weight = 0");
}

pub(super) fn check_required_destination(field: &str, destination: Option<&Destination>, problems: &mut Problems) {
    match destination {
        Some(destination) => check_destination(field, destination, problems),
        None => problems.add(field, "destination is required"),
    }
}

pub(super) fn check_destination(field: &str, destination: &Destination, problems: &mut Problems) {
    problems.require(
        destination.host != "*",
        format!("{field}.host"),
        "invalid destination host *",
    );
    check_host(problems, &format!("{field}.host"), &destination.host);
    problems.require(
        destination.subset.is_empty() || name::is_label(&destination.subset),
        format!("{field}.subset"),
        format!("{:?} is no subset name", destination.subset),
    );
    if let Some(port) = &destination.port {
        check_port_number(problems, &format!("{field}.port.number"), port.number.0);
    }
}
