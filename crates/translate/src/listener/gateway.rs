//! Listeners of gateways: the servers of all Gateway objects that select the workload, merged by port.

mod server;
mod server_tls;

pub(crate) use server::{Served, merged_servers};

use std::collections::BTreeMap;
use std::sync::Arc;

use api::networking::VirtualService;
use api::networking::virtual_service::L4Match;
use mesh::{Config, Port, Protocol, TargetPort};
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::{Filter, FilterChain, Listener};

use super::chain::Chain;
use super::hcm::{self, Routes};
use super::tcp::{self, Settings, Target};
use super::{Common, Traffic, filters, outbound};
use crate::client::Client;
use crate::graph::Cx;
use crate::host;
use crate::scope::Scope;
use crate::{naming, proto};

/// ALPN of any mutual TLS inside the mesh.
const MESH_ALPN: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

pub(super) fn listeners(cx: &mut Cx<'_>, common: &Common<'_>) -> Vec<Listener> {
    let merged = merged_servers(cx, common.class);
    let scope = cx.scope(&common.class.namespace);
    let mut by_listener: BTreeMap<(String, u16), Vec<Chain>> = BTreeMap::new();
    let mut taken: BTreeMap<u16, BTreeMap<String, String>> = BTreeMap::new();
    for group in &merged.groups {
        // Ports below 1024 need privileges that the pod may not have.
        if common.class.unprivileged && group.port < 1024 {
            continue;
        }
        let bind = if group.bind.is_empty() {
            common.class.wildcard().to_owned()
        } else {
            group.bind.clone()
        };
        let chains = Builder {
            cx,
            common,
            scope: &scope,
        }
        .chains(group, &bind, taken.entry(group.port).or_default());
        by_listener.entry((bind, group.port)).or_default().extend(chains);
    }
    by_listener
        .into_iter()
        .filter(|(_, chains)| !chains.is_empty())
        .map(|((bind, port), chains)| listener(common, &bind, port, chains))
        .collect()
}

fn listener(common: &Common<'_>, bind: &str, port: u16, chains: Vec<Chain>) -> Listener {
    let inspect = chains.iter().any(|c| {
        let alpn = c
            .tls
            .as_ref()
            .and_then(|t| t.common_tls_context.as_ref())
            .map(|c| &c.alpn_protocols);
        !c.sni.is_empty() || alpn.is_some_and(|a| !a.is_empty())
    });
    let mut listener_filters = Vec::new();
    if common.class.settings.proxy_protocol {
        listener_filters.push(filters::proxy_protocol());
    }
    if inspect {
        listener_filters.push(filters::tls_inspector());
    }
    let filter_chains: Vec<FilterChain> = chains.into_iter().map(Chain::finish).collect();
    Listener {
        name: format!("{bind}_{port}"),
        address: Some(proto::socket_address(bind, port)),
        listener_filters,
        filter_chains,
        connection_balance_config: common.class.balance_outbound.then(super::exact_balance),
        traffic_direction: core::TrafficDirection::Outbound as i32,
        access_log: common.telemetry.listener_logs(Traffic::Gateway),
        max_connections_to_accept_per_socket_event: Some(proto::u32_value(1)),
        ..Default::default()
    }
}

struct Builder<'a, 'b, 'c> {
    cx: &'a mut Cx<'b>,
    common: &'a Common<'c>,
    scope: &'a Scope,
}

impl Builder<'_, '_, '_> {
    fn chains(&mut self, group: &server::Group, bind: &str, taken: &mut BTreeMap<String, String>) -> Vec<Chain> {
        if group.protocol.is_http() {
            return vec![self.http_chain(None, &group.route, bind, group.port, group.protocol)];
        }
        let mut chains = Vec::new();
        for served in &group.servers {
            if served.terminates_https() {
                chains.push(self.http_chain(Some(served), &served.route, bind, group.port, served.protocol()));
            } else if served.server.tls.is_none() {
                chains.extend(self.tcp_route(served).map(|filters| Chain {
                    filters,
                    ..Chain::default()
                }));
            } else if !served.is_passthrough() {
                let sni = served.sni();
                let tls = server_tls::context(self.common, served, false);
                chains.extend(self.tcp_route(served).map(|filters| Chain {
                    sni,
                    tls,
                    filters,
                    ..Chain::default()
                }));
            } else if served.mode() == "AUTO_PASSTHROUGH" {
                chains.extend(self.auto_passthrough(served));
            } else {
                chains.extend(self.tls_routes(served, taken));
            }
        }
        chains
    }

    fn http_chain(&mut self, served: Option<&Served>, route: &str, bind: &str, port: u16, protocol: Protocol) -> Chain {
        let named = served.map(|s| s.server.name.clone()).filter(|n| !n.is_empty());
        let options = hcm::Options {
            traffic: Traffic::Gateway,
            stat_prefix: named.unwrap_or_else(|| format!("outbound_{bind}_{port};")),
            routes: Routes::Named(route.to_owned()),
            protocol,
            sniffed: false,
            http1: Some(core::Http1ProtocolOptions::default()),
            resolver: None,
        };
        Chain {
            sni: served.map(Served::sni).unwrap_or_default(),
            tls: served.and_then(|served| server_tls::context(self.common, served, true)),
            filters: vec![hcm::filter(self.common, options)],
            ..Chain::default()
        }
    }

    /// VirtualServices of the server's gateway that name one of its hosts.
    fn bound(&self, served: &Served) -> Vec<Arc<Config<VirtualService>>> {
        self.scope
            .virtual_services
            .iter()
            .filter(|vs| vs.spec.gateways.contains(&served.gateway))
            .filter(|vs| {
                vs.spec
                    .hosts
                    .iter()
                    .any(|h| served.hosts_for(&vs.meta.namespace).iter().any(|s| host::overlap(s, h)))
            })
            .cloned()
            .collect()
    }

    fn authorised(&self, rest: Vec<Filter>) -> Vec<Filter> {
        self.common.authz.tcp.iter().cloned().chain(rest).collect()
    }

    fn tcp_route(&mut self, served: &Served) -> Option<Vec<Filter>> {
        for config in self.bound(served) {
            for route in config.spec.tcp.iter().filter(|r| !r.route.is_empty()) {
                if route.matches.is_empty() || route.matches.iter().any(|m| served.takes(m)) {
                    let filters = outbound::route_filters(
                        self.cx,
                        self.common,
                        Traffic::Gateway,
                        self.scope,
                        &route.route,
                        &served.as_port(),
                        &config,
                    );
                    return Some(self.authorised(filters));
                }
            }
        }
        None
    }

    fn tls_routes(&mut self, served: &Served, taken: &mut BTreeMap<String, String>) -> Vec<Chain> {
        let mut chains = Vec::new();
        for config in self.bound(served) {
            for route in config.spec.tls.iter().filter(|r| !r.route.is_empty()) {
                for condition in &route.matches {
                    let l4 = L4Match {
                        port: condition.port,
                        gateways: condition.gateways.clone(),
                        ..L4Match::default()
                    };
                    if !served.takes(&l4) || !server::claim(taken, &condition.sni_hosts, &served.server.bind) {
                        continue;
                    }
                    let filters = outbound::route_filters(
                        self.cx,
                        self.common,
                        Traffic::Gateway,
                        self.scope,
                        &route.route,
                        &served.as_port(),
                        &config,
                    );
                    chains.push(Chain {
                        sni: condition.sni_hosts.clone(),
                        filters: self.authorised(filters),
                        ..Chain::default()
                    });
                }
            }
        }
        chains
    }

    /// One chain per service and subset: the server name says which, mutual TLS passes through.
    fn auto_passthrough(&mut self, served: &Served) -> Vec<Chain> {
        let hosts = served.sni();
        let client = Client::of_class(self.common.class);
        let mut chains = Vec::new();
        for service in self.scope.seen.services.iter().cloned() {
            if service.external || !hosts.iter().any(|h| host::covers(h, &service.key.host)) {
                continue;
            }
            let rule = self
                .cx
                .host_rules(&service.key.host)
                .resolve(&client, &service.key.namespace);
            for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
                let subsets = rule.iter().flat_map(|r| r.spec.subsets.iter().map(|s| s.name.as_str()));
                for subset in std::iter::once("").chain(subsets) {
                    let cluster = naming::sni(port.number, subset, &service.key.host);
                    let settings = Settings::of(rule.as_ref().map(|r| &r.spec), subset).without_tunnel();
                    let targets = vec![Target {
                        cluster: cluster.clone(),
                        weight: 0,
                    }];
                    let filters = tcp::chain(
                        self.common,
                        Traffic::Gateway,
                        &cluster,
                        targets,
                        settings,
                        port.protocol,
                    );
                    chains.push(Chain {
                        sni: vec![cluster],
                        alpn: MESH_ALPN.map(str::to_owned).to_vec(),
                        filters: self.authorised(filters),
                        ..Chain::default()
                    });
                }
            }
        }
        chains
    }
}

impl Served {
    /// The server's port as a service's port.
    fn as_port(&self) -> Port {
        Port {
            name: String::new(),
            number: self.server_port(),
            protocol: self.protocol(),
            target: TargetPort::Same,
        }
    }

    /// Whether a condition can hold on this server.
    fn takes(&self, condition: &L4Match) -> bool {
        condition
            .port
            .is_none_or(|p| p.0 == 0 || p.0 == u32::from(self.server_port()))
            && (condition.gateways.is_empty() || condition.gateways.contains(&self.gateway))
    }
}
