//! Outbound listeners: HTTP services of a port share one, others have one per address.

pub(crate) mod chains;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use mesh::{Address, Port, Protocol, Registry, Resolution, Service};
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};
use xds::resource::Resource;

use self::chains::{Question, Sort};
use super::chain::{Finished, Match};
use super::{Common, filters, virtual_outbound};
use crate::graph::Cx;
use crate::host;
use crate::proxy::Interception;
use crate::query::Query;
use crate::route::virtual_services::Ready;
use crate::scope::{Egress, Outward};
use crate::{dynamic_dns, proto};

/// What the listener of an address and port takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepts {
    Http,
    Tcp,
    /// Both, told apart by looking.
    Either,
}

struct Entry {
    accepts: Accepts,
    chains: Vec<Arc<Finished>>,
    /// What they take.
    taken: HashSet<Arc<Match>>,
    /// Whether traffic is not redirected to it.
    binds_ports: bool,
    /// Whether nothing is added any more: a Sidecar names the port.
    locked: bool,
}

type Key = (String, u16);
type Chains = Arc<Vec<Arc<Finished>>>;

/// Which listener class a protocol belongs to; none for what is not proxied.
fn class_of(protocol: Protocol) -> Option<Accepts> {
    match protocol {
        Protocol::Udp => None,
        Protocol::Unknown => Some(Accepts::Either),
        p if p.is_http() => Some(Accepts::Http),
        _ => Some(Accepts::Tcp),
    }
}

pub(super) fn listeners(cx: &mut Cx<'_>, common: &Common) -> Vec<Arc<Resource>> {
    let scope = cx.outward(&common.scope);
    let mut entries: BTreeMap<Key, Entry> = BTreeMap::new();
    for egress in &scope.egress {
        let binds_ports = egress.binds_ports || common.class.interception == Interception::None;
        let bind = match (egress.bind.as_str(), binds_ports) {
            ("", true) => Some(common.class.localhost().to_owned()),
            ("", false) => None,
            (bind, _) => Some(bind.to_owned()),
        };
        if egress.port.is_none() {
            entries.values_mut().for_each(|e| e.locked = true);
        }
        let mut builder = Builder {
            cx,
            common,
            scope: &scope,
            egress,
            bind,
            binds_ports,
            entries: &mut entries,
        };
        for service in egress.services.iter() {
            match &egress.port {
                Some(port) => builder.add_port(service, port),
                None => service.ports.iter().for_each(|port| builder.add_port(service, port)),
            }
        }
    }
    entries
        .into_iter()
        .filter_map(|((bind, port), entry)| {
            cx.resource(&Query::Listener(Arc::new(super::Question {
                class: common.id,
                bind,
                port,
                binds_ports: entry.binds_ports,
                chains: entry.chains,
            })))
        })
        .collect()
}

struct Builder<'a, 'b> {
    cx: &'a mut Cx<'b>,
    common: &'a Common,
    scope: &'a Outward,
    egress: &'a Egress,
    /// Where all listeners are, instead of at the services' addresses.
    bind: Option<String>,
    binds_ports: bool,
    entries: &'a mut BTreeMap<Key, Entry>,
}

impl Builder<'_, '_> {
    fn add_port(&mut self, service: &Arc<Service>, port: &Port) {
        let Some(accepts) = class_of(port.protocol) else { return };
        let class = &self.common.class;
        let wildcard = class.wildcard().to_owned();
        if let Some(bind) = self.bind.clone() {
            self.add(service, port, accepts, &bind, Vec::new());
            return;
        }
        let addresses = addresses_for(service, class.ipv4, class.ipv6);
        let headless = service.resolution == Resolution::Passthrough && addresses.is_empty();
        if headless && accepts != Accepts::Http {
            self.add_headless(service, port, accepts, &wildcard);
            return;
        }
        match accepts {
            Accepts::Http => self.add(service, port, accepts, &wildcard, Vec::new()),
            _ if addresses.is_empty() => self.add(service, port, accepts, &wildcard, Vec::new()),
            _ => {
                // A range has no address to bind to: it becomes a match of the shared listener.
                let (ranges, singles): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.contains('/'));
                for address in singles {
                    self.add(service, port, accepts, &address, Vec::new());
                }
                if !ranges.is_empty() {
                    self.add(service, port, accepts, &wildcard, ranges);
                }
            }
        }
    }

    /// A headless service has a listener per endpoint, but not for the proxy itself.
    fn add_headless(&mut self, service: &Arc<Service>, port: &Port, accepts: Accepts, wildcard: &str) {
        let endpoints = self.cx.endpoints(&service.key);
        let mut addresses: Vec<IpAddr> = endpoints
            .list
            .iter()
            .filter(|e| *e.service_port == *port.name)
            .filter_map(|e| match e.address {
                Address::Ip(ip) => Some(ip),
                _ => None,
            })
            .collect();
        addresses.dedup();
        if addresses.is_empty() && service.registry == Registry::External && service.selector.is_empty() {
            self.add(service, port, accepts, wildcard, Vec::new());
            return;
        }
        for address in addresses {
            if !self.common.class.headless_addresses.contains(&address) {
                self.add(service, port, accepts, &address.to_string(), Vec::new());
            }
        }
    }

    fn add(&mut self, service: &Arc<Service>, port: &Port, accepts: Accepts, bind: &str, ranges: Vec<String>) {
        let key = (bind.to_owned(), port.number);
        let wildcard = bind == self.common.class.wildcard();
        if self.entries.get(&key).is_some_and(|entry| entry.locked) {
            return;
        }
        let current = self.entries.get(&key).map(|entry| entry.accepts);
        match (accepts, current) {
            (Accepts::Http, Some(Accepts::Http | Accepts::Either)) => {}
            (Accepts::Http, current) => {
                let chains = self.http_chain(service, port, bind, false);
                let accepts = if wildcard || current.is_some() {
                    Accepts::Either
                } else {
                    Accepts::Http
                };
                self.merge(key, accepts, &chains);
            }
            (Accepts::Tcp, current) => {
                let chains = self.tcp_chains(service, port, bind, ranges);
                let accepts = if matches!(current, None | Some(Accepts::Tcp)) {
                    Accepts::Tcp
                } else {
                    Accepts::Either
                };
                self.merge(key, accepts, &chains);
            }
            (Accepts::Either, Some(Accepts::Either)) => {
                let chains = self.tcp_chains(service, port, bind, ranges);
                self.merge(key, Accepts::Either, &chains);
            }
            (Accepts::Either, current) => {
                let tcp = self.tcp_chains(service, port, bind, ranges);
                let http = self.http_chain(service, port, bind, true);
                if current == Some(Accepts::Http) {
                    self.entries.remove(&key);
                }
                self.merge(key.clone(), Accepts::Either, &tcp);
                self.merge(key, Accepts::Either, &http);
            }
        }
    }

    /// Adds chains whose match is not there yet: the older service wins.
    fn merge(&mut self, key: Key, accepts: Accepts, chains: &[Arc<Finished>]) {
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            accepts,
            chains: Vec::new(),
            taken: HashSet::new(),
            binds_ports: self.binds_ports,
            locked: false,
        });
        entry.accepts = accepts;
        for chain in chains {
            if entry.taken.insert(chain.takes.clone()) {
                entry.chains.push(chain.clone());
            }
        }
    }

    fn http_chain(&mut self, service: &Arc<Service>, port: &Port, bind: &str, sniffed: bool) -> Chains {
        let wildcard = bind == self.common.class.wildcard();
        let routes = if port.number == 0 {
            bind.to_owned()
        } else if sniffed && !wildcard {
            format!("{}:{}", service.key.host, port.number)
        } else {
            port.number.to_string()
        };
        let sort = Sort::Http {
            routes,
            sniffed,
            told_apart: sniffed || wildcard,
            resolves: dynamic_dns::is_resolved_by_proxy(service).then(|| service.clone()),
        };
        self.ask(bind, port, sort)
    }

    fn tcp_chains(&mut self, service: &Arc<Service>, port: &Port, bind: &str, ranges: Vec<String>) -> Chains {
        let concerns = |vs: &&Ready| vs.spec.hosts.iter().any(|h| host::overlap(h, &service.key.host));
        let aliases = self.scope.aliases.get(&service.key.host).into_iter().flatten();
        let sort = Sort::Tcp {
            service: service.clone(),
            ranges,
            configs: self.egress.virtual_services.iter().filter(concerns).cloned().collect(),
            aliases: aliases.map(|alias| alias.key.host.clone()).collect(),
        };
        self.ask(bind, port, sort)
    }

    fn ask(&mut self, bind: &str, port: &Port, sort: Sort) -> Chains {
        self.cx.chains(&Query::OutboundChains(Arc::new(Question {
            class: self.common.id,
            bind: bind.to_owned(),
            port: port.clone(),
            sort,
        })))
    }
}

/// Addresses of a service that a proxy of these families can use.
fn addresses_for(service: &Service, ipv4: bool, ipv6: bool) -> Vec<String> {
    let fits = |a: &&String| {
        let v6 = a.contains(':');
        (v6 && ipv6) || (!v6 && ipv4)
    };
    let mut addresses: Vec<String> = service.addresses.iter().filter(fits).cloned().collect();
    if service.registry == Registry::Kubernetes {
        addresses.truncate(1);
    }
    addresses
        .iter()
        .map(|a| a.strip_suffix("/32").unwrap_or(a).to_owned())
        .collect()
}

/// A listener without its chains, its chains, and the chain for what no other takes.
pub(super) fn frame(
    common: &Common,
    question: &super::Question,
) -> (Listener, Vec<Arc<Finished>>, Option<Arc<Finished>>) {
    let (bind, port, binds_ports) = (&question.bind, question.port, question.binds_ports);
    let needs_tls = question.chains.iter().any(|c| c.by_name);
    let needs_http = question.chains.iter().any(|c| c.by_alpn());
    // A chain that takes everything is the default, so that a partial match elsewhere never ends in a reset.
    let (all, mut chains): (Vec<_>, Vec<_>) = question.chains.iter().cloned().partition(|c| c.takes_all);
    let mut default = all.last().cloned();
    if chains.is_empty() {
        chains.extend(default.take());
    } else {
        default.get_or_insert_with(|| {
            Finished::of_rest(&FilterChain {
                name: "PassthroughFilterChain".to_owned(),
                filter_chain_match: Some(FilterChainMatch::default()),
                filters: vec![virtual_outbound::unknown_destination(common)],
                ..Default::default()
            })
        });
    }
    let mut listener_filters = Vec::new();
    if needs_tls {
        listener_filters.push(filters::tls_inspector());
    }
    if needs_http {
        listener_filters.push(filters::http_inspector());
    }
    let timeout = if needs_http {
        common.mesh.protocol_detection_timeout
    } else {
        Default::default()
    };
    let listener = Listener {
        name: format!("{bind}_{port}"),
        address: Some(match bind.strip_prefix("unix://") {
            Some(path) => proto::pipe_address(path),
            None => proto::socket_address(bind, port),
        }),
        bind_to_port: (!binds_ports).then(|| proto::bool_value(false)),
        max_connections_to_accept_per_socket_event: binds_ports.then(|| proto::u32_value(1)),
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: Some(proto::duration(timeout)),
        listener_filters,
        connection_balance_config: common.class.balance_outbound.then(super::exact_balance),
        traffic_direction: core::TrafficDirection::Outbound as i32,
        ..Default::default()
    };
    (listener, chains, default)
}
