//! Sidecars.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::networking::sidecar::{EgressListener, IngressListener, OutboundTrafficPolicy};
use api::networking::{Port, Sidecar};

use super::destination_rule::check_pool;
use super::field::{
    Problems, check_complete_host, check_domain, check_host, check_port_name, check_port_number, check_protocol,
    check_socket, is_http, is_tls,
};
use super::virtual_service::check_destination;
use super::{gateway, name};

/// What begins the path of a socket.
const SOCKET: &str = "unix://";

pub(super) fn check(sidecar: &Sidecar, of: &str, problems: &mut Problems) {
    if sidecar
        .workload_selector
        .as_ref()
        .is_some_and(|selector| selector.labels.is_empty())
    {
        problems.warn(
            "spec.workloadSelector",
            "has no labels, so it is for all workloads of the namespace",
        );
    }
    let empty = sidecar.egress.is_empty()
        && sidecar.ingress.is_empty()
        && sidecar.outbound_traffic_policy.is_none()
        && sidecar.inbound_connection_pool.is_none();
    problems.require(!empty, "spec", "an empty sidecar changes nothing");
    let mut ports = BTreeSet::new();
    for (index, listener) in sidecar.ingress.iter().enumerate() {
        let field = format!("spec.ingress[{index}]");
        let Some(port) = &listener.port else {
            problems.add(format!("{field}.port"), "a port is required");
            continue;
        };
        ingress(&field, listener, port, problems);
        problems.require(
            ports.insert(port.number.0),
            format!("{field}.port.number"),
            "ports of listeners must be unique",
        );
    }
    check_pool(
        "spec.inboundConnectionPool",
        sidecar.inbound_connection_pool.as_ref(),
        problems,
    );
    let mut listeners = BTreeSet::new();
    for (index, listener) in sidecar.egress.iter().enumerate() {
        let field = format!("spec.egress[{index}]");
        match &listener.port {
            None => problems.require(
                index + 1 == sidecar.egress.len(),
                format!("{field}.port"),
                "a listener without a port is for all that is left, and the last one",
            ),
            Some(port) => {
                egress_port(&field, listener, port, problems);
                let place = if port.number.0 == 0 { listener.bind.as_str() } else { "" };
                problems.require(
                    listeners.insert((port.number.0, place)),
                    format!("{field}.port.number"),
                    "ports of listeners must be unique",
                );
            }
        }
        egress_hosts(&field, listener, of, problems);
    }
    if let Some(policy) = &sidecar.outbound_traffic_policy {
        outbound(policy, problems);
    }
}

fn check_port(field: &str, port: &Port, problems: &mut Problems) {
    if !port.name.is_empty() {
        check_port_name(problems, &format!("{field}.name"), &port.name);
    }
    check_protocol(problems, &format!("{field}.protocol"), &port.protocol);
    problems.require(
        port.target_port.is_none_or(|target| target.0 == 0),
        format!("{field}.targetPort"),
        "has no impact on sidecars; leave it out",
    );
}

fn check_address(field: &str, bind: &str, problems: &mut Problems) {
    problems.require(
        bind.is_empty() || bind.parse::<IpAddr>().is_ok(),
        format!("{field}.bind"),
        format!("{bind:?} is no IP address"),
    );
}

fn ingress(field: &str, listener: &IngressListener, port: &Port, problems: &mut Problems) {
    check_port(&format!("{field}.port"), port, problems);
    check_port_number(problems, &format!("{field}.port.number"), port.number.0);
    check_address(field, &listener.bind, problems);
    check_endpoint(
        &format!("{field}.defaultEndpoint"),
        &listener.default_endpoint,
        problems,
    );
    if let Some(tls) = &listener.tls {
        let field = format!("{field}.tls");
        let unsupported = [
            ("subjectAltNames", !tls.subject_alt_names.is_empty()),
            ("httpsRedirect", tls.https_redirect),
            ("credentialName", !tls.credential_name.is_empty()),
            ("credentialNames", !tls.credential_names.is_empty()),
            ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ];
        for (name, _) in unsupported.iter().filter(|(_, given)| *given) {
            problems.add(format!("{field}.{name}"), "is not supported in sidecars");
        }
        let mode = tls.mode.as_deref().unwrap_or_default();
        problems.require(
            !matches!(mode, "ISTIO_MUTUAL" | "AUTO_PASSTHROUGH"),
            format!("{field}.mode"),
            format!("{mode} is not supported in sidecars"),
        );
        problems.require(
            is_tls(&port.protocol),
            &field,
            "only ports of HTTPS or TLS can have TLS settings",
        );
        gateway::check_tls(&field, tls, problems);
    }
    check_pool(
        &format!("{field}.connectionPool"),
        listener.connection_pool.as_ref(),
        problems,
    );
    let http = listener
        .connection_pool
        .as_ref()
        .is_some_and(|pool| pool.http.is_some());
    if http && !is_http(&port.protocol) {
        problems.warn(
            format!("{field}.connectionPool.http"),
            format!(
                "the port's protocol is not HTTP ({}); only TCP settings will apply",
                port.protocol
            ),
        );
    }
}

/// Where the application listens: `127.0.0.1:PORT` and alike, or a socket.
fn check_endpoint(field: &str, endpoint: &str, problems: &mut Problems) {
    if endpoint.is_empty() {
        return;
    }
    if let Some(path) = endpoint.strip_prefix(SOCKET) {
        return check_socket(problems, field, path);
    }
    let valid = endpoint.rsplit_once(':').is_some_and(|(address, port)| {
        let is_own = matches!(address, "" | "127.0.0.1" | "0.0.0.0" | "[::1]" | "[::]");
        is_own && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    problems.require(
        valid,
        field,
        format!(
            "{endpoint:?} must be of form 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT, :PORT or unix://PATH"
        ),
    );
}

fn egress_port(field: &str, listener: &EgressListener, port: &Port, problems: &mut Problems) {
    check_port(&format!("{field}.port"), port, problems);
    if port.number.0 != 0 {
        check_port_number(problems, &format!("{field}.port.number"), port.number.0);
        return check_address(field, &listener.bind, problems);
    }
    match listener.bind.strip_prefix(SOCKET) {
        Some(path) => check_socket(problems, &format!("{field}.bind"), path),
        None => problems.add(
            format!("{field}.port.number"),
            "0 is for sockets only: bind must be unix://PATH",
        ),
    }
    let mode = listener.capture_mode.as_deref().unwrap_or("DEFAULT");
    problems.require(
        matches!(mode, "DEFAULT" | "NONE"),
        format!("{field}.captureMode"),
        "must be DEFAULT or NONE for a socket",
    );
}

/// `namespace/host`, of which none should be there twice.
fn egress_hosts(field: &str, listener: &EgressListener, of: &str, problems: &mut Problems) {
    problems.require(
        !listener.hosts.is_empty(),
        format!("{field}.hosts"),
        "at least one host is required",
    );
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for host in &listener.hosts {
        let field = format!("{field}.hosts");
        let Some((namespace, name)) = host.split_once('/') else {
            problems.add(field, format!("{host:?} must be of form namespace/host"));
            continue;
        };
        // Behind `~` is what is left out.
        let bare = namespace.strip_prefix('~').unwrap_or(namespace);
        problems.require(
            !namespace.is_empty() && (matches!(bare, "" | "*" | ".") || name::is_label(bare)),
            &field,
            format!("{namespace:?} is no namespace; use '*/' for all, './' for its own"),
        );
        check_complete_host(problems, &field, name);
        check_host(problems, &field, name);
        if !namespace.starts_with('~') {
            let of_namespace = seen.entry(if namespace == "." { of } else { namespace }).or_default();
            let repeated = if name == "*" {
                !of_namespace.is_empty()
            } else {
                of_namespace.contains(name) || of_namespace.contains("*")
            };
            if repeated {
                problems.warn(&field, format!("{host:?} is included already, or includes others"));
            }
            of_namespace.insert(name);
        }
    }
    if seen.len() > 1 && seen.get("*").is_some_and(|names| names.contains("*")) {
        problems.warn(
            format!("{field}.hosts"),
            "`*/*` is all there is; other hosts beside it change nothing",
        );
    }
}

fn outbound(policy: &OutboundTrafficPolicy, problems: &mut Problems) {
    let field = "spec.outboundTrafficPolicy";
    let mode = policy.mode.as_deref().unwrap_or("REGISTRY_ONLY");
    problems.require(
        mode != "ALLOW_ANY_DYNAMIC_DNS",
        format!("{field}.mode"),
        "ALLOW_ANY_DYNAMIC_DNS is for the whole mesh only",
    );
    let Some(proxy) = &policy.egress_proxy else { return };
    let field = format!("{field}.egressProxy");
    problems.require(mode == "ALLOW_ANY", &field, "needs the mode ALLOW_ANY");
    check_domain(problems, &format!("{field}.host"), &proxy.host);
    problems.require(proxy.port.is_some(), format!("{field}.port"), "a port is required");
    check_destination(&field, proxy, problems);
}
