//! Virtual services.

use std::collections::BTreeSet;

use api::lenient::Duration;
use api::networking::VirtualService;
use api::networking::virtual_service::{
    Destination, HttpMatch, HttpRoute, HttpRouteDestination, RouteDestination, StringMatch,
};

use super::field::{Problems, check_cidr, check_export_to, check_host, check_port_number, check_regex};

pub(super) fn check(service: &VirtualService, problems: &mut Problems) {
    let in_mesh = service.gateways.is_empty() || service.gateways.iter().any(|gateway| gateway == "mesh");
    // A route that others delegate to has no hosts.
    if service.hosts.is_empty() && (!service.tcp.is_empty() || !service.tls.is_empty()) {
        problems.add("spec.hosts", "a virtual service must have at least one host");
    }
    let mut seen = BTreeSet::new();
    for (index, host) in service.hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        check_host(problems, &field, host);
        problems.require(
            !in_mesh || host != "*",
            &field,
            "wildcard host * is not allowed for virtual services bound to the mesh gateway",
        );
        problems.require(seen.insert(host), &field, format!("duplicate host {host:?}"));
    }
    let routes = service.http.len() + service.tls.len() + service.tcp.len();
    problems.require(
        routes > 0,
        "spec",
        "http, tcp or tls must be provided in a virtual service",
    );
    for (index, route) in service.http.iter().enumerate() {
        check_http(
            &format!("spec.http[{index}]"),
            route,
            service.hosts.is_empty(),
            problems,
        );
    }
    for (index, route) in service.tls.iter().enumerate() {
        let field = format!("spec.tls[{index}]");
        problems.require(
            !route.matches.is_empty(),
            format!("{field}.match"),
            "a TLS route needs a match with sniHosts",
        );
        for (at, m) in route.matches.iter().enumerate() {
            let field = format!("{field}.match[{at}]");
            problems.require(
                !m.sni_hosts.is_empty(),
                format!("{field}.sniHosts"),
                "at least one SNI host is required",
            );
            m.destination_subnets
                .iter()
                .for_each(|subnet| check_cidr(problems, &format!("{field}.destinationSubnets"), subnet));
        }
        check_plain_destinations(&field, &route.route, problems);
    }
    for (index, route) in service.tcp.iter().enumerate() {
        let field = format!("spec.tcp[{index}]");
        for (at, m) in route.matches.iter().enumerate() {
            m.destination_subnets
                .iter()
                .for_each(|subnet| check_cidr(problems, &format!("{field}.match[{at}].destinationSubnets"), subnet));
        }
        check_plain_destinations(&field, &route.route, problems);
    }
    check_export_to(problems, &service.export_to);
}

fn check_http(field: &str, route: &HttpRoute, delegated: bool, problems: &mut Problems) {
    let actions = [
        !route.route.is_empty(),
        route.redirect.is_some(),
        route.direct_response.is_some(),
        route.delegate.is_some(),
    ];
    match actions.iter().filter(|action| **action).count() {
        0 => problems.add(field, "HTTP route, redirect, direct_response or delegate is required"),
        1 => {}
        _ => problems.add(
            field,
            "HTTP route can have only one of route, redirect, direct_response and delegate",
        ),
    }
    problems.require(
        !(delegated && route.delegate.is_some()),
        format!("{field}.delegate"),
        "a delegate cannot delegate further",
    );
    for (index, m) in route.matches.iter().enumerate() {
        check_match(&format!("{field}.match[{index}]"), m, problems);
    }
    check_http_destinations(field, &route.route, problems);
    if let Some(redirect) = &route.redirect {
        let code = redirect.redirect_code.0;
        problems.require(
            code == 0 || matches!(code, 301..=303 | 307 | 308),
            format!("{field}.redirect.redirectCode"),
            format!("{code} is no redirect; use 301, 302, 303, 307 or 308"),
        );
    }
    if let Some(response) = &route.direct_response {
        let status = response.status.0;
        problems.require(
            (200..=599).contains(&status),
            format!("{field}.directResponse.status"),
            format!("{status} is no final HTTP status"),
        );
    }
    if let Some(rewrite) = &route.rewrite
        && let Some(regex) = &rewrite.uri_regex_rewrite
    {
        check_regex(
            problems,
            &format!("{field}.rewrite.uriRegexRewrite.match"),
            &regex.pattern,
        );
        problems.require(
            rewrite.uri.is_empty(),
            format!("{field}.rewrite"),
            "rewrite may only contain one of uri and uriRegexRewrite",
        );
    }
    check_duration(&format!("{field}.timeout"), route.timeout, problems);
    if let Some(retries) = &route.retries {
        problems.require(
            retries.attempts.0 >= 0,
            format!("{field}.retries.attempts"),
            "attempts cannot be negative",
        );
        check_duration(
            &format!("{field}.retries.perTryTimeout"),
            retries.per_try_timeout,
            problems,
        );
    }
    let abort = route
        .fault
        .as_ref()
        .and_then(|fault| fault.abort.as_ref())
        .and_then(|abort| abort.http_status);
    if let Some(status) = abort {
        problems.require(
            (200..=599).contains(&status.0),
            format!("{field}.fault.abort.httpStatus"),
            format!("{} is no HTTP status", status.0),
        );
    }
    if let Some(mirror) = &route.mirror {
        check_destination(&format!("{field}.mirror"), mirror, problems);
    }
}

fn check_match(field: &str, m: &HttpMatch, problems: &mut Problems) {
    let parts = [
        ("uri", &m.uri),
        ("scheme", &m.scheme),
        ("method", &m.method),
        ("authority", &m.authority),
    ];
    for (name, text) in parts {
        if let Some(text) = text {
            check_text(&format!("{field}.{name}"), text, problems);
        }
    }
    for (name, text) in m.headers.iter().chain(&m.without_headers).chain(&m.query_params) {
        problems.require(
            !name.is_empty(),
            format!("{field}.headers"),
            "a header name is required",
        );
        check_text(&format!("{field}.headers[{name}]"), text, problems);
    }
    if let Some(port) = m.port {
        check_port_number(problems, &format!("{field}.port"), port.0);
    }
}

fn check_text(field: &str, text: &StringMatch, problems: &mut Problems) {
    if let Some(pattern) = &text.regex {
        problems.require(
            !pattern.is_empty(),
            field,
            "an empty regular expression matches nothing useful",
        );
        // Istio reads a lone `*` as "present".
        if pattern != "*" {
            check_regex(problems, field, pattern);
        }
    }
}

fn check_duration(field: &str, duration: Option<Duration>, problems: &mut Problems) {
    let Some(duration) = duration else { return };
    let negative = duration.seconds < 0 || duration.nanos < 0;
    let short = !duration.is_zero() && duration.seconds == 0 && duration.nanos < 1_000_000;
    problems.require(!negative && !short, field, "must be a valid duration greater than 1ms");
}

fn check_http_destinations(field: &str, routes: &[HttpRouteDestination], problems: &mut Problems) {
    check_weights(field, routes.iter().map(|route| route.weight.0), problems);
    for (index, route) in routes.iter().enumerate() {
        match &route.destination {
            Some(destination) => {
                check_destination(&format!("{field}.route[{index}].destination"), destination, problems)
            }
            None => problems.add(format!("{field}.route[{index}].destination"), "destination is required"),
        }
    }
}

fn check_plain_destinations(field: &str, routes: &[RouteDestination], problems: &mut Problems) {
    problems.require(!routes.is_empty(), format!("{field}.route"), "a route is required");
    check_weights(field, routes.iter().map(|route| route.weight.0), problems);
    for (index, route) in routes.iter().enumerate() {
        match &route.destination {
            Some(destination) => {
                check_destination(&format!("{field}.route[{index}].destination"), destination, problems)
            }
            None => problems.add(format!("{field}.route[{index}].destination"), "destination is required"),
        }
    }
}

fn check_weights(field: &str, weights: impl Iterator<Item = i32>, problems: &mut Problems) {
    let weights: Vec<i32> = weights.collect();
    problems.require(
        weights.iter().all(|weight| *weight >= 0),
        format!("{field}.route"),
        "a weight cannot be negative",
    );
    let none = weights.len() > 1 && weights.iter().map(|weight| i64::from(*weight)).sum::<i64>() == 0;
    problems.require(!none, format!("{field}.route"), "total destination weight = 0");
}

fn check_destination(field: &str, destination: &Destination, problems: &mut Problems) {
    problems.require(
        destination.host != "*",
        format!("{field}.host"),
        "invalid destination host *",
    );
    check_host(problems, &format!("{field}.host"), &destination.host);
    if !destination.subset.is_empty() && revision::name::check_label("subset", &destination.subset).is_err() {
        problems.add(
            format!("{field}.subset"),
            format!("{:?} is no subset name", destination.subset),
        );
    }
    if let Some(port) = &destination.port {
        check_port_number(problems, &format!("{field}.port.number"), port.number.0);
    }
}
