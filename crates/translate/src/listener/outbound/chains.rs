//! Filter chains of outbound listeners: of one port at an address, for requests or for connections.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::names::group;
use api::networking::virtual_service::{Destination, L4Match, RouteDestination, TlsMatch};
use mesh::{Port, Service};
use xds::envoy::config::cluster::v3::cluster;
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::Filter;

use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::listener::chain::{Chain, Finished, PLAIN_HTTP, RAW};
use crate::listener::hcm::{self, Http1, Routes};
use crate::listener::tcp::{self, Settings, Target};
use crate::listener::{Common, Traffic};
use crate::route::virtual_services::Ready;
use crate::{dynamic_dns, naming, proto, scope};

/// Which chains, and what they are made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(super) class: ClassId,
    pub(super) bind: String,
    pub(super) port: Port,
    pub(super) sort: Sort,
}

/// What chains are for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Http {
        routes: String,
        sniffed: bool,
        /// Whether traffic of other addresses comes to the listener, which may be anything.
        told_apart: bool,
        /// The service whose names the proxy resolves.
        resolves: Option<Arc<Service>>,
    },
    Tcp {
        service: Arc<Service>,
        ranges: Vec<String>,
        /// VirtualServices for connections to the service.
        configs: Vec<Ready>,
        /// Other names of the service.
        aliases: Vec<Arc<str>>,
    },
}

/// Which it is of two questions is nearly always told by these.
impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.class, &self.bind, self.port.number, self.port.protocol).hash(state);
        match &self.sort {
            Sort::Http { routes, sniffed, .. } => (routes, sniffed).hash(state),
            Sort::Tcp { service, .. } => service.key.hash(state),
        }
    }
}

/// The answer to [`crate::query::Query::OutboundChains`].
pub(crate) fn answer(cx: &mut Cx<'_>, question: &Question) -> Vec<Arc<Finished>> {
    let Some(common) = cx.common(question.class) else {
        return Vec::new();
    };
    let mut maker = Maker {
        cx,
        common: &common,
        port: &question.port,
        bind: &question.bind,
    };
    match &question.sort {
        Sort::Http {
            routes,
            sniffed,
            told_apart,
            resolves,
        } => {
            let mut chain = maker.http_chain(routes, *sniffed, resolves.as_deref());
            if *told_apart {
                chain.alpn = PLAIN_HTTP.map(str::to_owned).to_vec();
                chain.transport = RAW;
            }
            vec![chain.finish()]
        }
        Sort::Tcp {
            service,
            ranges,
            configs,
            aliases,
        } => {
            let chains = maker.tcp_chains(service, ranges, configs, aliases);
            chains.into_iter().map(Chain::finish).collect()
        }
    }
}

/// Makes chains for one port of an address.
struct Maker<'a, 'b> {
    cx: &'a mut Cx<'b>,
    common: &'a Common,
    port: &'a Port,
    bind: &'a str,
}

impl Maker<'_, '_> {
    fn http_chain(&mut self, routes: &str, sniffed: bool, resolves: Option<&Service>) -> Chain {
        let options = hcm::Options {
            sort: hcm::Sort {
                traffic: Traffic::Outbound,
                protocol: self.port.protocol,
                sniffed,
                http1: Http1::Unstated,
            },
            stat_prefix: format!("outbound_{}_{};", self.bind, self.port.number),
            routes: Routes::Named(routes.to_owned()),
            resolver: resolves.map(|service| dynamic_dns::of_request(service, self.family())),
        };
        Chain {
            filters: vec![hcm::filter(self.cx, self.common, options)],
            ..Chain::default()
        }
    }

    fn tcp_chains(
        &mut self,
        service: &Service,
        ranges: &[String],
        configs: &[Ready],
        aliases: &[Arc<str>],
    ) -> Vec<Chain> {
        let mut chains = Vec::new();
        if self.port.protocol.is_tls() {
            self.tls_routes(ranges, configs, &mut chains);
            if chains.is_empty() {
                let by_name = !ranges.is_empty() || self.bind == self.common.class.wildcard();
                let names = std::iter::once(&service.key.host).chain(aliases);
                let sni = names.filter(|_| by_name).map(|name| name.to_string()).collect();
                chains.push(self.default_chain(service, ranges, sni));
            }
        } else if !self.tcp_routes(ranges, configs, &mut chains) {
            chains.push(self.default_chain(service, ranges, Vec::new()));
        }
        chains
    }

    fn family(&self) -> cluster::DnsLookupFamily {
        dynamic_dns::family(self.common.class.ipv4, self.common.class.ipv6)
    }

    fn default_chain(&mut self, service: &Service, ranges: &[String], sni: Vec<String>) -> Chain {
        let (host, port) = (&service.key.host, self.port);
        let cluster = naming::outbound(port.number, "", host);
        let client = Client::of_class(&self.common.class);
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

    fn tls_routes(&mut self, ranges: &[String], configs: &[Ready], chains: &mut Vec<Chain>) {
        let mut handled: Vec<(Vec<String>, Vec<String>)> = Vec::new();
        for config in configs {
            for route in config.spec.tls.iter().filter(|r| !r.route.is_empty()) {
                for condition in &route.matches {
                    if !self.tls_applies(condition) {
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
                        filters: self.route_filters(&route.route, config),
                        metadata: Some(config_metadata(config)),
                        ..Chain::default()
                    });
                    handled.push(runtime);
                }
            }
        }
    }

    /// Whether a route takes everything.
    fn tcp_routes(&mut self, ranges: &[String], configs: &[Ready], chains: &mut Vec<Chain>) -> bool {
        for config in configs {
            for route in config.spec.tcp.iter().filter(|r| !r.route.is_empty()) {
                let applicable: Vec<&L4Match> = route.matches.iter().filter(|m| self.l4_applies(m)).collect();
                let everything =
                    route.matches.is_empty() || applicable.iter().any(|m| m.destination_subnets.is_empty());
                if everything {
                    chains.push(Chain {
                        ranges: ranges.to_vec(),
                        filters: self.route_filters(&route.route, config),
                        metadata: Some(config_metadata(config)),
                        ..Chain::default()
                    });
                    return true;
                }
                let subnets: Vec<String> = applicable.iter().flat_map(|m| m.destination_subnets.clone()).collect();
                if !subnets.is_empty() {
                    chains.push(Chain {
                        ranges: subnets,
                        filters: self.route_filters(&route.route, config),
                        ..Chain::default()
                    });
                }
            }
        }
        false
    }

    fn route_filters(&mut self, routes: &[RouteDestination], config: &Ready) -> Vec<Filter> {
        route_filters(self.cx, self.common, Traffic::Outbound, routes, self.port, config)
    }

    fn tls_applies(&self, condition: &TlsMatch) -> bool {
        self.applies(
            &condition.gateways,
            &condition.source_labels,
            &condition.source_namespace,
            condition.port,
        )
    }

    fn l4_applies(&self, condition: &L4Match) -> bool {
        self.applies(
            &condition.gateways,
            &condition.source_labels,
            &condition.source_namespace,
            condition.port,
        )
    }

    fn applies(
        &self,
        gateways: &[String],
        labels: &BTreeMap<String, String>,
        namespace: &str,
        wanted: Option<api::lenient::U32>,
    ) -> bool {
        let class = &self.common.class;
        (gateways.is_empty() || gateways.iter().any(|g| g == "mesh"))
            && labels.iter().all(|(k, v)| class.workload_labels.get(k) == Some(v))
            && (namespace.is_empty() || *namespace == *class.namespace)
            && wanted.is_none_or(|w| w.0 == 0 || w.0 == u32::from(self.port.number))
    }
}

/// Filters for a list of destinations.
pub(crate) fn route_filters(
    cx: &mut Cx<'_>,
    common: &Common,
    traffic: Traffic,
    routes: &[RouteDestination],
    port: &Port,
    config: &Ready,
) -> Vec<Filter> {
    let nothing = Destination::default();
    let mut targets = Vec::new();
    let mut first: Option<(String, String)> = None;
    for route in routes {
        let destination = route.destination.as_ref().unwrap_or(&nothing);
        let number = scope::stated_port(cx, &common.scope, destination).unwrap_or(port.number);
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
    let service = cx.known(&common.scope, &host);
    let rule = service.as_ref().and_then(|service| {
        cx.host_rules(&service.key.host)
            .resolve(&Client::of_class(&common.class), &service.key.namespace)
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
fn config_metadata(config: &Ready) -> core::Metadata {
    let path = naming::object_path(group::NETWORKING, "virtual-service", &config.meta);
    proto::metadata([("istio", proto::fields_of([("config", proto::text(path))]))])
}
