//! Outbound listeners: HTTP services of a port share one, others have one per address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::names::group;
use api::networking::VirtualService;
use api::networking::virtual_service::{Destination, L4Match, RouteDestination, TlsMatch};
use mesh::{Address, Config, Input, Port, Protocol, Registry, Resolution, Service};
use xds::envoy::config::cluster::v3::cluster;
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use super::chain::{Chain, PLAIN_HTTP, RAW};
use super::hcm::{self, Routes};
use super::tcp::{self, Settings, Target};
use super::{Common, Traffic, filters, virtual_outbound};
use crate::client::Client;
use crate::graph::Cx;
use crate::host;
use crate::proxy::Interception;
use crate::scope::{Egress, Scope};
use crate::{dynamic_dns, naming, proto};

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
    chains: Vec<Chain>,
    /// Whether traffic is not redirected to it.
    binds_ports: bool,
    /// Whether nothing is added any more: a Sidecar names the port.
    locked: bool,
}

type Key = (String, u16);

/// Which listener class a protocol belongs to; none for what is not proxied.
fn class_of(protocol: Protocol) -> Option<Accepts> {
    match protocol {
        Protocol::Udp => None,
        Protocol::Unknown => Some(Accepts::Either),
        p if p.is_http() => Some(Accepts::Http),
        _ => Some(Accepts::Tcp),
    }
}

pub(super) fn listeners(cx: &mut Cx<'_>, common: &Common<'_>) -> Vec<Listener> {
    let scope = common.scope;
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
            scope,
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
        .map(|((bind, port), entry)| finish(common, &bind, port, entry))
        .collect()
}

struct Builder<'a, 'b, 'c> {
    cx: &'a mut Cx<'b>,
    common: &'a Common<'c>,
    scope: &'a Scope,
    egress: &'a Egress,
    /// Where all listeners are, instead of at the services' addresses.
    bind: Option<String>,
    binds_ports: bool,
    entries: &'a mut BTreeMap<Key, Entry>,
}

impl Builder<'_, '_, '_> {
    fn add_port(&mut self, service: &Arc<Service>, port: &Port) {
        let Some(accepts) = class_of(port.protocol) else { return };
        let class = self.common.class;
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
        let endpoints = self
            .cx
            .read(Input::Endpoints(service.key.clone()))
            .endpoints(&service.key);
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
                let mut chain = self.http_chain(service, port, bind, false);
                if wildcard {
                    // Traffic to other addresses of this port may be anything.
                    chain.alpn = PLAIN_HTTP.map(str::to_owned).to_vec();
                    chain.transport = RAW;
                }
                let accepts = if wildcard || current.is_some() {
                    Accepts::Either
                } else {
                    Accepts::Http
                };
                self.merge(key, accepts, vec![chain]);
            }
            (Accepts::Tcp, current) => {
                let chains = self.tcp_chains(service, port, bind, &ranges);
                let accepts = if matches!(current, None | Some(Accepts::Tcp)) {
                    Accepts::Tcp
                } else {
                    Accepts::Either
                };
                self.merge(key, accepts, chains);
            }
            (Accepts::Either, Some(Accepts::Either)) => {
                let chains = self.tcp_chains(service, port, bind, &ranges);
                self.merge(key, Accepts::Either, chains);
            }
            (Accepts::Either, current) => {
                let mut chains = self.tcp_chains(service, port, bind, &ranges);
                let mut http = self.http_chain(service, port, bind, true);
                http.alpn = PLAIN_HTTP.map(str::to_owned).to_vec();
                http.transport = RAW;
                chains.push(http);
                if current == Some(Accepts::Http) {
                    self.entries.remove(&key);
                }
                self.merge(key, Accepts::Either, chains);
            }
        }
    }

    /// Adds chains whose match is not there yet: the older service wins.
    fn merge(&mut self, key: Key, accepts: Accepts, chains: Vec<Chain>) {
        let entry = self.entries.entry(key).or_insert(Entry {
            accepts,
            chains: Vec::new(),
            binds_ports: self.binds_ports,
            locked: false,
        });
        entry.accepts = accepts;
        for chain in chains {
            if !entry.chains.iter().any(|c| c.clashes(&chain)) {
                entry.chains.push(chain);
            }
        }
    }

    fn http_chain(&mut self, service: &Service, port: &Port, bind: &str, sniffed: bool) -> Chain {
        let own = sniffed && bind != self.common.class.wildcard();
        let routes = if port.number == 0 {
            bind.to_owned()
        } else if own {
            format!("{}:{}", service.key.host, port.number)
        } else {
            port.number.to_string()
        };
        let options = hcm::Options {
            traffic: Traffic::Outbound,
            stat_prefix: format!("outbound_{bind}_{};", port.number),
            routes: Routes::Named(routes),
            protocol: port.protocol,
            sniffed,
            http1: None,
            resolver: dynamic_dns::is_resolved_by_proxy(service)
                .then(|| dynamic_dns::of_request(service, self.family())),
        };
        Chain {
            filters: vec![hcm::filter(self.common, options)],
            ..Chain::default()
        }
    }

    fn tcp_chains(&mut self, service: &Arc<Service>, port: &Port, bind: &str, ranges: &[String]) -> Vec<Chain> {
        let configs: Vec<Arc<Config<VirtualService>>> = self
            .egress
            .virtual_services
            .iter()
            .filter(|vs| vs.spec.hosts.iter().any(|h| host::overlap(h, &service.key.host)))
            .cloned()
            .collect();
        let mut chains = Vec::new();
        if port.protocol.is_tls() {
            self.tls_routes(port, ranges, &configs, &mut chains);
            if chains.is_empty() {
                let by_name = !ranges.is_empty() || bind == self.common.class.wildcard();
                let mut sni = Vec::new();
                if by_name {
                    sni.push(service.key.host.to_string());
                    for alias in self.scope.aliases.get(&service.key.host).into_iter().flatten() {
                        sni.push(alias.key.host.to_string());
                    }
                }
                chains.push(self.default_chain(service, port, ranges, sni));
            }
        } else if !self.tcp_routes(port, ranges, &configs, &mut chains) {
            chains.push(self.default_chain(service, port, ranges, Vec::new()));
        }
        chains
    }

    fn family(&self) -> cluster::DnsLookupFamily {
        dynamic_dns::family(self.common.class.ipv4, self.common.class.ipv6)
    }

    fn default_chain(&mut self, service: &Arc<Service>, port: &Port, ranges: &[String], sni: Vec<String>) -> Chain {
        let host = &service.key.host;
        let cluster = naming::outbound(port.number, "", host);
        let client = Client::of_class(self.common.class);
        let rule = self.cx.host_rules(host).resolve(&client, &service.key.namespace);
        let settings = Settings::of(rule.as_ref().map(|r| &r.spec), "");
        let stat = tcp::stat_prefix(self.common, Some(service), port.number, "", &cluster, self.cx.domain());
        let targets = vec![Target { cluster, weight: 0 }];
        let mut filters = tcp::chain(self.common, Traffic::Outbound, &stat, targets, settings, port.protocol);
        if dynamic_dns::is_resolved_by_proxy(service) && port.protocol.is_tls() {
            filters.insert(0, dynamic_dns::of_server_name(service, port.number, self.family()));
        }
        Chain {
            sni,
            ranges: ranges.to_vec(),
            filters,
            ..Chain::default()
        }
    }

    fn tls_routes(
        &mut self,
        port: &Port,
        ranges: &[String],
        configs: &[Arc<Config<VirtualService>>],
        chains: &mut Vec<Chain>,
    ) {
        let mut handled: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        for config in configs {
            for route in config.spec.tls.iter().filter(|r| !r.route.is_empty()) {
                for condition in &route.matches {
                    if !self.tls_applies(condition, port) {
                        continue;
                    }
                    let runtime = (condition.sni_hosts.clone(), condition.destination_subnets.clone());
                    if handled.contains(&runtime) {
                        continue;
                    }
                    let own = if condition.destination_subnets.is_empty() {
                        ranges
                    } else {
                        &condition.destination_subnets
                    };
                    chains.push(Chain {
                        sni: condition.sni_hosts.clone(),
                        ranges: own.to_vec(),
                        filters: self.route_filters(&route.route, port, config),
                        metadata: Some(config_metadata(config)),
                        ..Chain::default()
                    });
                    handled.push(runtime);
                }
            }
        }
    }

    /// Whether a route takes everything.
    fn tcp_routes(
        &mut self,
        port: &Port,
        ranges: &[String],
        configs: &[Arc<Config<VirtualService>>],
        chains: &mut Vec<Chain>,
    ) -> bool {
        for config in configs {
            for route in config.spec.tcp.iter().filter(|r| !r.route.is_empty()) {
                let applicable: Vec<&L4Match> = route.matches.iter().filter(|m| self.l4_applies(m, port)).collect();
                let everything =
                    route.matches.is_empty() || applicable.iter().any(|m| m.destination_subnets.is_empty());
                if everything {
                    chains.push(Chain {
                        ranges: ranges.to_vec(),
                        filters: self.route_filters(&route.route, port, config),
                        metadata: Some(config_metadata(config)),
                        ..Chain::default()
                    });
                    return true;
                }
                let subnets: Vec<String> = applicable.iter().flat_map(|m| m.destination_subnets.clone()).collect();
                if !subnets.is_empty() {
                    chains.push(Chain {
                        ranges: subnets,
                        filters: self.route_filters(&route.route, port, config),
                        ..Chain::default()
                    });
                }
            }
        }
        false
    }

    fn route_filters(
        &mut self,
        routes: &[RouteDestination],
        port: &Port,
        config: &Config<VirtualService>,
    ) -> Vec<xds::envoy::config::listener::v3::Filter> {
        route_filters(
            self.cx,
            self.common,
            Traffic::Outbound,
            self.scope,
            routes,
            port,
            config,
        )
    }

    fn tls_applies(&self, condition: &TlsMatch, port: &Port) -> bool {
        self.applies(
            &condition.gateways,
            &condition.source_labels,
            &condition.source_namespace,
            condition.port,
            port,
        )
    }

    fn l4_applies(&self, condition: &L4Match, port: &Port) -> bool {
        self.applies(
            &condition.gateways,
            &condition.source_labels,
            &condition.source_namespace,
            condition.port,
            port,
        )
    }

    fn applies(
        &self,
        gateways: &[String],
        labels: &BTreeMap<String, String>,
        namespace: &str,
        wanted: Option<api::lenient::U32>,
        port: &Port,
    ) -> bool {
        let class = self.common.class;
        (gateways.is_empty() || gateways.iter().any(|g| g == "mesh"))
            && labels.iter().all(|(k, v)| class.workload_labels.get(k) == Some(v))
            && (namespace.is_empty() || *namespace == *class.namespace)
            && wanted.is_none_or(|w| w.0 == 0 || w.0 == u32::from(port.number))
    }
}

/// Filters for a list of destinations.
pub(super) fn route_filters(
    cx: &mut Cx<'_>,
    common: &Common<'_>,
    traffic: Traffic,
    scope: &Scope,
    routes: &[RouteDestination],
    port: &Port,
    config: &Config<VirtualService>,
) -> Vec<xds::envoy::config::listener::v3::Filter> {
    let nothing = Destination::default();
    let mut targets = Vec::new();
    let mut first: Option<(String, String)> = None;
    for route in routes {
        let destination = route.destination.as_ref().unwrap_or(&nothing);
        let service = scope.service(&destination.host);
        let number = match (&destination.port, service) {
            (Some(selector), _) => selector.number.0 as u16,
            (None, Some(service)) if service.ports.len() == 1 => service.ports[0].number,
            _ => port.number,
        };
        let weight = u32::try_from(route.weight.0).unwrap_or_default();
        if routes.len() > 1 && weight == 0 {
            continue;
        }
        first.get_or_insert_with(|| (destination.host.clone(), destination.subset.clone()));
        targets.push(Target {
            cluster: naming::outbound(number, &destination.subset, &destination.host),
            weight,
        });
    }
    let (host, subset) = first.unwrap_or_default();
    let service = scope.service(&host).cloned();
    let rule = service.as_ref().and_then(|service| {
        cx.host_rules(&service.key.host)
            .resolve(&Client::of_class(common.class), &service.key.namespace)
    });
    let settings = Settings::of(rule.as_ref().map(|r| &r.spec), &subset);
    let stat = match targets.as_slice() {
        [only] => {
            let number = only
                .cluster
                .split('|')
                .nth(1)
                .and_then(|p| p.parse().ok())
                .unwrap_or(port.number);
            tcp::stat_prefix(common, service.as_deref(), number, &subset, &only.cluster, cx.domain())
        }
        _ => format!("{}.{}", config.meta.name, config.meta.namespace),
    };
    tcp::chain(common, traffic, &stat, targets, settings, port.protocol)
}

/// Metadata that names the VirtualService behind a chain.
pub(super) fn config_metadata(config: &Config<VirtualService>) -> core::Metadata {
    let path = naming::object_path(group::NETWORKING, "virtual-service", &config.meta);
    proto::metadata([("istio", proto::fields_of([("config", proto::text(path))]))])
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

fn finish(common: &Common<'_>, bind: &str, port: u16, entry: Entry) -> Listener {
    let needs_tls = entry.chains.iter().any(|c| !c.sni.is_empty());
    let needs_http = entry.chains.iter().any(|c| !c.alpn.is_empty());
    let binds_ports = entry.binds_ports;
    let mut chains = Vec::new();
    let mut default: Option<FilterChain> = None;
    for chain in entry.chains {
        if chain.matches_all() {
            default = Some(chain.finish());
        } else {
            chains.push(chain.finish());
        }
    }
    // A chain that takes everything is the default, so that a partial match elsewhere never ends in a reset.
    if chains.is_empty() {
        chains.extend(default.take());
    } else {
        default.get_or_insert_with(|| FilterChain {
            name: "PassthroughFilterChain".to_owned(),
            filter_chain_match: Some(FilterChainMatch::default()),
            filters: vec![virtual_outbound::unknown_destination(common)],
            ..Default::default()
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
    Listener {
        name: format!("{bind}_{port}"),
        address: Some(match bind.strip_prefix("unix://") {
            Some(path) => proto::pipe_address(path),
            None => proto::socket_address(bind, port),
        }),
        filter_chains: chains,
        default_filter_chain: default,
        bind_to_port: (!binds_ports).then(|| proto::bool_value(false)),
        max_connections_to_accept_per_socket_event: binds_ports.then(|| proto::u32_value(1)),
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: Some(proto::duration(timeout)),
        listener_filters,
        connection_balance_config: common.class.balance_outbound.then(super::exact_balance),
        traffic_direction: core::TrafficDirection::Outbound as i32,
        ..Default::default()
    }
}
