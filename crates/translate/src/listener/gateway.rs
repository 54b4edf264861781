//! Listeners of gateways: the servers of all Gateway objects that select the workload, merged by port.

mod server;
pub(crate) mod server_tls;

pub(crate) use server::{Merged, Served, merged_servers, passes_through};

use std::collections::BTreeMap;
use std::sync::Arc;

use api::networking::virtual_service::L4Match;
use hashbrown::HashMap;
use mesh::{Port, Protocol, TargetPort};
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::{Filter, Listener};
use xds::resource::Resource;

use super::chain::{Chain, Finished};
use super::hcm::{self, Http1, Routes};
use super::outbound::chains;
use super::tcp::{self, Settings, Target};
use super::{Common, Traffic, filters};
use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::host;
use crate::query::Query;
use crate::route::virtual_services::Ready;
use crate::{naming, proto};

/// ALPN of any mutual TLS inside the mesh.
const MESH_ALPN: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

/// A server that terminates HTTPS, and where.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    class: ClassId,
    served: Arc<Served>,
    bind: String,
    port: u16,
}

/// The answer to [`Query::HttpsChain`].
pub(crate) fn https_chain(cx: &mut Cx<'_>, question: &Question) -> Option<Arc<Finished>> {
    let common = cx.common(question.class)?;
    let served = &question.served;
    let tls = server_tls::socket(cx, &common, served, true);
    let named = Some(&served.server().name).filter(|name| !name.is_empty());
    let chain = Chain {
        sni: served.sni(),
        tls,
        ..http_chain(
            cx,
            &common,
            named,
            &served.route,
            &question.bind,
            question.port,
            served.protocol(),
        )
    };
    Some(chain.finish())
}

pub(super) fn listeners(cx: &mut Cx<'_>, common: &Common) -> Vec<Arc<Resource>> {
    let merged = cx.servers(common.id);
    let mut by_listener: BTreeMap<(String, u16), Vec<Arc<Finished>>> = BTreeMap::new();
    let mut taken: BTreeMap<u16, HashMap<String, String>> = BTreeMap::new();
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
        let chains = Builder { cx, common }.chains(group, &bind, taken.entry(group.port).or_default());
        by_listener.entry((bind, group.port)).or_default().extend(chains);
    }
    by_listener
        .into_iter()
        .filter(|(_, chains)| !chains.is_empty())
        .filter_map(|((bind, port), chains)| {
            cx.resource(&Query::Listener(Arc::new(super::Question {
                class: common.id,
                bind,
                port,
                binds_ports: true,
                chains,
            })))
        })
        .collect()
}

/// A listener without its chains.
pub(super) fn frame(common: &Common, question: &super::Question) -> Listener {
    let (bind, port) = (&question.bind, question.port);
    let mut listener_filters = Vec::new();
    if common.class.settings.proxy_protocol {
        listener_filters.push(filters::proxy_protocol());
    }
    if question.chains.iter().any(|c| c.by_name || c.offers_alpn) {
        listener_filters.push(filters::tls_inspector());
    }
    Listener {
        name: format!("{bind}_{port}"),
        address: Some(proto::socket_address(bind, port)),
        listener_filters,
        connection_balance_config: common.class.balance_outbound.then(super::exact_balance),
        traffic_direction: core::TrafficDirection::Outbound as i32,
        access_log: common.telemetry.listener_logs(Traffic::Gateway),
        max_connections_to_accept_per_socket_event: Some(proto::u32_value(1)),
        ..Default::default()
    }
}

fn http_chain(
    cx: &mut Cx<'_>,
    common: &Common,
    name: Option<&String>,
    route: &str,
    bind: &str,
    port: u16,
    protocol: Protocol,
) -> Chain {
    let options = hcm::Options {
        sort: hcm::Sort {
            traffic: Traffic::Gateway,
            protocol,
            sniffed: false,
            http1: Http1::Default,
        },
        stat_prefix: name.map_or_else(|| format!("outbound_{bind}_{port};"), String::clone),
        routes: Routes::Named(route.to_owned()),
        resolver: None,
    };
    Chain {
        filters: vec![hcm::filter(cx, common, options)],
        ..Chain::default()
    }
}

struct Builder<'a, 'b> {
    cx: &'a mut Cx<'b>,
    common: &'a Common,
}

impl Builder<'_, '_> {
    fn chains(&mut self, group: &server::Group, bind: &str, taken: &mut HashMap<String, String>) -> Vec<Arc<Finished>> {
        let common = self.common;
        if group.protocol.is_http() {
            let chain = http_chain(self.cx, common, None, &group.route, bind, group.port, group.protocol);
            return vec![chain.finish()];
        }
        let mut chains = Vec::new();
        for served in &group.servers {
            if served.terminates_https() {
                let question = Question {
                    class: common.id,
                    served: served.clone(),
                    bind: bind.to_owned(),
                    port: group.port,
                };
                chains.extend(self.cx.chain(&Query::HttpsChain(Arc::new(question))));
            } else if served.server().tls.is_none() {
                let filters = self.tcp_route(served);
                chains.extend(filters.map(|filters| {
                    Chain {
                        filters,
                        ..Chain::default()
                    }
                    .finish()
                }));
            } else if !served.is_passthrough() {
                let tls = server_tls::socket(self.cx, common, served, false);
                let of_filters = |filters| Chain {
                    sni: served.sni(),
                    tls,
                    filters,
                    ..Chain::default()
                };
                chains.extend(self.tcp_route(served).map(|filters| of_filters(filters).finish()));
            } else if served.mode() == "AUTO_PASSTHROUGH" {
                chains.extend(self.auto_passthrough(served).into_iter().map(Chain::finish));
            } else {
                chains.extend(self.tls_routes(served, taken).into_iter().map(Chain::finish));
            }
        }
        chains
    }

    /// VirtualServices of the server's gateway that name one of its hosts, and route connections.
    fn bound(&mut self, served: &Served) -> Vec<Ready> {
        let bound = self.cx.bound(&self.common.scope, &served.gateway);
        let is_named = |routes: &&Ready| {
            let mut hosts = served.hosts_for(&routes.meta.namespace);
            hosts.any(|server| routes.spec.hosts.iter().any(|h| host::overlap(server, h)))
        };
        let of_connections = bound.iter().filter(|routes| routes.routes_connections());
        of_connections.filter(is_named).cloned().collect()
    }

    fn authorised(&self, rest: Vec<Filter>) -> Vec<Filter> {
        self.common.authz.tcp.iter().cloned().chain(rest).collect()
    }

    fn tcp_route(&mut self, served: &Served) -> Option<Vec<Filter>> {
        for config in self.bound(served) {
            for route in config.spec.tcp.iter().filter(|r| !r.route.is_empty()) {
                if route.matches.is_empty() || route.matches.iter().any(|m| served.takes(m)) {
                    let filters = chains::route_filters(
                        self.cx,
                        self.common,
                        Traffic::Gateway,
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

    fn tls_routes(&mut self, served: &Served, taken: &mut HashMap<String, String>) -> Vec<Chain> {
        let mut chains = Vec::new();
        for config in self.bound(served) {
            for route in config.spec.tls.iter().filter(|r| !r.route.is_empty()) {
                for condition in &route.matches {
                    let l4 = L4Match {
                        port: condition.port,
                        gateways: condition.gateways.clone(),
                        ..L4Match::default()
                    };
                    if !served.takes(&l4) || !server::claim(taken, &condition.sni_hosts, &served.server().bind) {
                        continue;
                    }
                    let filters = chains::route_filters(
                        self.cx,
                        self.common,
                        Traffic::Gateway,
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
        let client = Client::of_class(&self.common.class);
        let mut chains = Vec::new();
        let seen = self.cx.seen_of(&self.common.scope);
        for service in seen.services.iter() {
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
            && (condition.gateways.is_empty() || condition.gateways.iter().any(|g| **g == *self.gateway))
    }
}
