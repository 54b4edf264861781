//! The listener that redirection sends inbound traffic to: chains per port, mode of mutual TLS and protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh::{Port, Protocol, Service};
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, ListenerFilterChainMatchPredicate as Predicate,
    listener_filter_chain_match_predicate as predicate,
};
use xds::envoy::extensions::transport_sockets::tls::v3 as tls_v3;
use xds::envoy::r#type::v3::Int32Range;

use super::chain::{PLAIN_HTTP, RAW, TLS};
use super::hcm::{self, Http1, Routes};
use super::tcp::{self, Settings, Target};
use super::{Common, Traffic, filters};
use crate::authentication::{self, Mode};
use crate::cluster::{self, Inbound};
use crate::graph::Cx;
use crate::proxy::{Flavour, Interception};
use crate::{naming, proto, route, scope, tls};

const MESH_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const MESH_TCP: [&str; 2] = ["istio-peer-exchange", "istio"];
const MESH_ALL: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

/// How a chain recognises its traffic.
struct Recognition {
    alpn: &'static [&'static str],
    transport: &'static str,
    http: bool,
    terminates_tls: bool,
}

const fn chain(
    alpn: &'static [&'static str],
    transport: &'static str,
    http: bool,
    terminates_tls: bool,
) -> Recognition {
    Recognition {
        alpn,
        transport,
        http,
        terminates_tls,
    }
}

/// Chains by mode and protocol (control-plane.md §2.4.3).
fn recognitions(mode: Mode, protocol: Protocol) -> Vec<Recognition> {
    let http = protocol.is_http();
    match (mode, protocol) {
        (Mode::Strict, Protocol::Unknown) => vec![chain(&MESH_HTTP, TLS, true, true), chain(&[], TLS, false, true)],
        (Mode::Strict, _) => vec![chain(&[], TLS, http, true)],
        (Mode::Permissive, Protocol::Unknown) => vec![
            chain(&MESH_HTTP, TLS, true, true),
            chain(&PLAIN_HTTP, RAW, true, false),
            chain(&MESH_TCP, TLS, false, true),
            chain(&[], RAW, false, false),
            chain(&[], TLS, false, false),
        ],
        (Mode::Permissive, _) if http => vec![chain(&MESH_ALL, TLS, true, true), chain(&[], RAW, true, false)],
        (Mode::Permissive, _) => {
            vec![
                chain(&MESH_ALL, TLS, false, true),
                chain(&[], TLS, false, false),
                chain(&[], RAW, false, false),
            ]
        }
        (Mode::Disable, Protocol::Unknown) => vec![chain(&PLAIN_HTTP, RAW, true, false), chain(&[], RAW, false, false)],
        (Mode::Disable, _) => vec![chain(&[], RAW, http, false)],
    }
}

/// A port of the workload, or all others.
struct Served {
    /// The workload's port; 0 for all that no service declares.
    port: u16,
    service_port: u16,
    host: String,
    protocol: Protocol,
    cluster: String,
    passthrough: bool,
    tcp_stat: String,
    /// Address that chains are named after.
    bind: String,
    /// Path of the Sidecar that has the listener.
    path: Option<String>,
}

pub(super) fn listeners(cx: &mut Cx<'_>, common: &Common) -> Vec<Listener> {
    let Ok(own_port) = u16::try_from(common.mesh.proxy_inbound_listen_port.0) else {
        return Vec::new();
    };
    let modes = authentication::modes(cx, &common.class.namespace, &common.class.workload_labels);
    let sidecar = scope::sidecar(cx, &common.scope);
    let targets = cluster::served(cx, &common.class, common.id, sidecar.as_deref());
    let mut bound = Vec::new();
    let mut chains = vec![loop_guard(common, own_port)];
    let rest = passthrough(common, 0, cx.domain());
    chains.extend(chains_of(cx, common, &rest, modes.general));
    for (port, mode) in &modes.ports {
        if targets.iter().all(|t| t.number != *port) {
            let rest = passthrough(common, *port, cx.domain());
            chains.extend(chains_of(cx, common, &rest, *mode));
        }
    }
    for target in &targets {
        // Ports that the proxy itself listens on cannot be the workload's.
        if [common.mesh.proxy_listen_port.0, common.mesh.proxy_inbound_listen_port.0]
            .contains(&i32::from(target.number))
        {
            continue;
        }
        let served = served(common, target, cx.domain());
        let own = chains_of(cx, common, &served, modes.of_port(target.number));
        if target.listener.as_ref().is_some_and(|l| l.binds_ports) {
            bound.push(bound_listener(common, &served, own));
        } else {
            chains.extend(own);
        }
    }
    if common.class.interception == Interception::None {
        return bound;
    }
    let tproxy = common.class.interception == Interception::Tproxy;
    let mut listener_filters = vec![filters::original_dst()];
    if tproxy {
        listener_filters.push(filters::original_src());
    }
    listener_filters.extend(inspectors(&chains));
    let redirected = Listener {
        name: "virtualInbound".to_owned(),
        address: Some(proto::socket_address(common.class.wildcard(), own_port)),
        filter_chains: chains,
        listener_filters,
        listener_filters_timeout: Some(proto::duration(common.mesh.protocol_detection_timeout)),
        continue_on_listener_filters_timeout: true,
        transparent: tproxy.then(|| proto::bool_value(true)),
        traffic_direction: core::TrafficDirection::Inbound as i32,
        access_log: common.telemetry.listener_logs(Traffic::Inbound),
        max_connections_to_accept_per_socket_event: Some(proto::u32_value(1)),
        connection_balance_config: common.class.balance_inbound.then(super::exact_balance),
        ..Default::default()
    };
    bound.insert(0, redirected);
    bound
}

fn served(common: &Common, inbound: &Inbound, domain: &str) -> Served {
    let cluster = naming::inbound(inbound.number);
    let service = inbound.service();
    let tcp_stat = match (service, &inbound.listener) {
        (Some(service), None) => tcp_stat(common, Some((service, &inbound.port)), &cluster, domain),
        _ => cluster.clone(),
    };
    let listener = inbound.listener.as_ref();
    Served {
        port: inbound.number,
        service_port: inbound.port.number,
        host: match (listener, service) {
            (Some(listener), _) => listener.host.clone(),
            (None, service) => service.map_or_else(String::new, |s| s.key.host.to_string()),
        },
        protocol: inbound.port.protocol,
        cluster,
        passthrough: false,
        tcp_stat,
        bind: listener.map_or_else(|| common.class.wildcard().to_owned(), |l| l.bind.clone()),
        path: listener.map(|l| l.path.clone()),
    }
}

/// A listener of its own, for a port that traffic is not redirected from.
fn bound_listener(common: &Common, served: &Served, chains: Vec<FilterChain>) -> Listener {
    Listener {
        name: format!("{}_{}", served.bind, served.port),
        address: Some(proto::socket_address(&served.bind, served.port)),
        listener_filters: inspectors(&chains),
        filter_chains: chains,
        listener_filters_timeout: Some(proto::duration(common.mesh.protocol_detection_timeout)),
        continue_on_listener_filters_timeout: true,
        traffic_direction: core::TrafficDirection::Inbound as i32,
        access_log: common.telemetry.listener_logs(Traffic::Inbound),
        max_connections_to_accept_per_socket_event: Some(proto::u32_value(1)),
        connection_balance_config: common.class.balance_inbound.then(super::exact_balance),
        ..Default::default()
    }
}

fn passthrough(common: &Common, port: u16, domain: &str) -> Served {
    Served {
        port,
        service_port: 0,
        host: String::new(),
        protocol: Protocol::Unknown,
        cluster: naming::INBOUND_PASSTHROUGH.to_owned(),
        passthrough: true,
        tcp_stat: tcp_stat(common, None, naming::INBOUND_PASSTHROUGH, domain),
        bind: common.class.wildcard().to_owned(),
        path: None,
    }
}

/// Prefix of statistics of inbound connections. The reference leaves the variable of the target port as it stands.
fn tcp_stat(common: &Common, target: Option<(&Arc<Service>, &Port)>, cluster: &str, domain: &str) -> String {
    let pattern = &common.mesh.inbound_cluster_stat_name;
    if pattern.is_empty() {
        return cluster.to_owned();
    }
    const TARGET: &str = "%TARGET_PORT%";
    let parts = pattern.split(TARGET).map(|part| match target {
        Some((service, port)) => naming::stat_name(part, service, "", port, domain),
        None => naming::stat_name_of_nothing(part),
    });
    parts.collect::<Vec<_>>().join(TARGET)
}

fn chains_of(cx: &mut Cx<'_>, common: &Common, served: &Served, mode: Mode) -> Vec<FilterChain> {
    recognitions(mode, served.protocol)
        .iter()
        .map(|r| filter_chain(cx, common, served, r))
        .collect()
}

fn filter_chain(cx: &mut Cx<'_>, common: &Common, served: &Served, recognition: &Recognition) -> FilterChain {
    let name = match (served.passthrough, recognition.http) {
        (true, true) => "virtualInbound-catchall-http".to_owned(),
        (true, false) => "virtualInbound".to_owned(),
        (false, _) => format!("{}_{}", served.bind, served.port),
    };
    let mut list = Vec::new();
    if common.class.flavour == Flavour::Contrib {
        list.push(filters::network(
            "istio.metadata_exchange",
            crate::cluster::metadata_exchange(),
        ));
    }
    if recognition.http {
        let prefix = if served.passthrough {
            format!("{};", served.cluster)
        } else {
            format!("inbound_{}_{};", served.bind, served.port)
        };
        let routes = route::inbound(
            &common.mesh,
            &served.cluster,
            &served.host,
            served.service_port,
            served.protocol,
        );
        let sort = hcm::Sort {
            traffic: Traffic::Inbound,
            protocol: served.protocol,
            sniffed: false,
            http1: Http1::Unstated,
        };
        list.push(hcm::filter(
            cx,
            common,
            hcm::Options {
                sort,
                stat_prefix: prefix,
                routes: Routes::Inline(Box::new(routes)),
                resolver: None,
            },
        ));
    } else {
        list.extend(common.authz.tcp.iter().cloned());
        let targets = vec![Target {
            cluster: served.cluster.clone(),
            weight: 0,
        }];
        list.extend(tcp::chain(
            common,
            Traffic::Inbound,
            &served.tcp_stat,
            targets,
            Settings::default(),
            served.protocol,
        ));
    }
    FilterChain {
        name,
        filter_chain_match: Some(FilterChainMatch {
            destination_port: (served.port != 0).then(|| proto::u32_value(u32::from(served.port))),
            transport_protocol: recognition.transport.to_owned(),
            application_protocols: recognition.alpn.iter().map(|a| (*a).to_owned()).collect(),
            ..Default::default()
        }),
        filters: list,
        metadata: served
            .path
            .as_ref()
            .map(|path| proto::metadata([("istio", proto::fields_of([("config", proto::text(path.as_str()))]))])),
        transport_socket: recognition
            .terminates_tls
            .then(|| tls::downstream_socket(&server_context(common, recognition.http))),
        ..Default::default()
    }
}

fn loop_guard(common: &Common, own_port: u16) -> FilterChain {
    let mut list = Vec::new();
    if common.class.flavour == Flavour::Contrib {
        list.push(filters::network(
            "istio.metadata_exchange",
            crate::cluster::metadata_exchange(),
        ));
    }
    list.push(tcp::filter(
        &xds::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy {
            stat_prefix: naming::BLACK_HOLE.to_owned(),
            cluster_specifier: Some(
                xds::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier::Cluster(
                    naming::BLACK_HOLE.to_owned(),
                ),
            ),
            ..Default::default()
        },
    ));
    FilterChain {
        name: "virtualInbound-blackhole".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(proto::u32_value(u32::from(own_port))),
            ..Default::default()
        }),
        filters: list,
        ..Default::default()
    }
}

/// Server context of mutual TLS inside the mesh: the peer must have a certificate of one of the trust domains.
fn server_context(common: &Common, http: bool) -> tls_v3::DownstreamTlsContext {
    let mesh = &common.mesh;
    let domains = std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases);
    let mut parameters = tls::parameters();
    parameters.cipher_suites = tls::CIPHERS.map(str::to_owned).to_vec();
    if let Some(own) = &mesh.mesh_mtls {
        if own.min_protocol_version.as_deref() == Some("TLSV1_3") {
            parameters.tls_minimum_protocol_version = tls_v3::tls_parameters::TlsProtocol::TlSv13 as i32;
        }
        if !own.cipher_suites.is_empty() {
            parameters.cipher_suites.clone_from(&own.cipher_suites);
        }
        parameters.ecdh_curves.clone_from(&own.ecdh_curves);
    }
    tls_v3::DownstreamTlsContext {
        common_tls_context: Some(tls_v3::CommonTlsContext {
            tls_params: Some(parameters),
            tls_certificate_sds_secret_configs: vec![tls::agent_secret(tls::WORKLOAD_SECRET)],
            validation_context_type: Some(tls::validation(
                domains.map(|d| tls::prefix(&format!("spiffe://{d}/"))).collect(),
                tls::agent_secret(tls::ROOT_SECRET),
            )),
            alpn_protocols: tls::server_alpn(common.class.flavour, http),
            ..Default::default()
        }),
        require_client_certificate: Some(proto::bool_value(true)),
        ..Default::default()
    }
}

/// Inspectors, each kept from ports where no chain needs it: it could delay servers that speak first.
fn inspectors(chains: &[FilterChain]) -> Vec<xds::envoy::config::listener::v3::ListenerFilter> {
    let mut needs: BTreeMap<i32, (bool, bool)> = BTreeMap::new();
    for chain in chains {
        let Some(condition) = &chain.filter_chain_match else {
            continue;
        };
        let port = condition.destination_port.as_ref().map_or(0, |p| p.value as i32);
        let entry = needs.entry(port).or_default();
        entry.0 |= condition.transport_protocol == TLS;
        entry.1 |= condition
            .application_protocols
            .iter()
            .any(|a| PLAIN_HTTP.contains(&a.as_str()));
    }
    let mut list = Vec::new();
    if needs.values().any(|n| n.0) {
        let mut filter = filters::tls_inspector();
        let general = needs.get(&0).is_some_and(|n| n.0);
        let ports: Vec<i32> = needs
            .iter()
            .filter(|(p, n)| **p != 0 && n.0 != general)
            .map(|(p, _)| *p)
            .collect();
        filter.filter_disabled = match (general, any_of(&ports)) {
            (_, None) => None,
            (true, Some(rule)) => Some(Predicate { rule: Some(rule) }),
            (false, Some(rule)) => Some(Predicate {
                rule: Some(predicate::Rule::NotMatch(Box::new(Predicate { rule: Some(rule) }))),
            }),
        };
        list.push(filter);
    }
    if needs.values().any(|n| n.1) {
        let mut filter = filters::http_inspector();
        let ports: Vec<i32> = needs.iter().filter(|(_, n)| !n.1).map(|(p, _)| *p).collect();
        filter.filter_disabled = any_of(&ports).map(|rule| Predicate { rule: Some(rule) });
        list.push(filter);
    }
    list
}

fn any_of(ports: &[i32]) -> Option<predicate::Rule> {
    let one = |port: &i32| {
        predicate::Rule::DestinationPortRange(Int32Range {
            start: *port,
            end: port + 1,
        })
    };
    match ports {
        [] => None,
        [port] => Some(one(port)),
        several => Some(predicate::Rule::OrMatch(predicate::MatchSet {
            rules: several.iter().map(|p| Predicate { rule: Some(one(p)) }).collect(),
        })),
    }
}
