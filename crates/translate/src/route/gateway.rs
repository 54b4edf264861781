//! Routes of gateways: the hosts that a server and a VirtualService agree on.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use hashbrown::HashMap;
use prost::Message;
use xds::envoy::config::route::v3::{RouteConfiguration, VirtualHost, virtual_host};
use xds::resource::Resource;

use super::made::{self, Made, Place};
use super::{MAX_DIRECT_RESPONSE, bound, kept};
use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::host;
use crate::listener::Served;
use crate::proxy::ProxyClass;
use crate::query::Query;
use crate::scope::ScopeKey;
use crate::{proto, wire};

/// Which configuration, and for whom.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    name: Arc<str>,
    scope: ScopeKey,
    client: Arc<Client>,
    /// Whether servers are told how often a request was tried.
    attempt_count: bool,
    /// Servers that ask for it, in order.
    servers: Arc<Vec<Arc<Served>>>,
}

/// Which it is of two questions is nearly always told by these.
impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.scope.hash(state);
    }
}

pub(super) fn configurations(cx: &mut Cx<'_>, class: &ProxyClass, id: ClassId) -> Vec<Arc<Resource>> {
    let merged = cx.servers(id);
    let scope = ScopeKey {
        namespace: class.namespace.clone(),
        sidecar: None,
    };
    let mut client = made::view(&Client::of_class(class));
    if !cx.selects_by_labels(scope.clone()) {
        client.labels = None;
    }
    let client = Arc::new(client);
    let named = merged.by_route.iter().filter(|(name, _)| !name.is_empty());
    named
        .filter_map(|(name, servers)| {
            cx.resource(&Query::GatewayRoutes(Arc::new(Question {
                name: name.clone(),
                scope: scope.clone(),
                client: client.clone(),
                attempt_count: !class.settings.no_attempt_count,
                servers: servers.clone(),
            })))
        })
        .collect()
}

/// The answer to [`Query::GatewayRoutes`].
pub(crate) fn configuration(cx: &mut Cx<'_>, question: &Question) -> Resource {
    let bound: Vec<Bound> = question
        .servers
        .iter()
        .map(|served| {
            let of_gateway = Arc::new(bound::Question {
                gateway: served.gateway.clone(),
                scope: question.scope.clone(),
                client: question.client.clone(),
            });
            let routes = cx.bound_routes(&of_gateway);
            (of_gateway, routes)
        })
        .collect();
    let mut hosts = Hosts::default();
    for (served, bound) in question.servers.iter().zip(&bound) {
        hosts.add_server(cx, served, bound);
    }
    const NAME: u32 = 1;
    let name = &question.name;
    let mut bytes = BytesMut::new();
    wire::put(NAME, name.as_bytes(), &mut bytes);
    if hosts.list.is_empty() {
        let port = question.servers.first().map(|s| s.server_port());
        let name = format!("blackhole:{}", port.unwrap_or_default());
        kept::write(&mut bytes, &name, ["*"].into_iter(), [].into_iter(), &[]);
    } else {
        hosts.write(question.attempt_count, &mut bytes);
    }
    bytes.extend_from_slice(&TAIL);
    Resource::of_pieces::<RouteConfiguration>(name.clone(), vec![bytes.freeze()])
}

/// What comes after the virtual hosts, which is the same in all configurations.
static TAIL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let tail = RouteConfiguration {
        validate_clusters: Some(proto::bool_value(false)),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: Some(proto::u32_value(MAX_DIRECT_RESPONSE)),
        ..Default::default()
    };
    tail.encode_to_vec()
});

/// What VirtualServices say for the gateway of a server.
type Bound = (Arc<bound::Question>, Arc<Vec<bound::Served>>);

/// A virtual host in the making.
struct Host<'a> {
    /// In lower case.
    name: Cow<'a, str>,
    /// Port that it is named after.
    port: u16,
    requires_tls: bool,
    /// Its routes: hosts with the same routes share a virtual host.
    routes: List,
}

/// Number of a list of places.
type List = usize;

/// Lists of places of routes, each once: nothing, or another list and one more place.
#[derive(Default)]
struct Lists {
    known: HashMap<(List, usize), List>,
    all: Vec<(List, usize)>,
}

impl Lists {
    /// The number of the list without places.
    const NOTHING: List = 0;

    /// The list and one more place.
    fn and(&mut self, list: List, place: usize) -> List {
        *self.known.entry((list, place)).or_insert_with(|| {
            self.all.push((list, place));
            self.all.len()
        })
    }

    /// Places of a list, in order.
    fn places(&self, list: List) -> Vec<usize> {
        let last = |list: &List| self.all.get(list.checked_sub(1)?);
        let mut places = Vec::new();
        let mut rest = list;
        while let Some((before, place)) = last(&rest) {
            places.push(*place);
            rest = *before;
        }
        places.reverse();
        places
    }
}

/// Virtual hosts of a configuration.
#[derive(Default)]
struct Hosts<'a> {
    list: Vec<Host<'a>>,
    /// Places of hosts by their names.
    by_name: HashMap<Cow<'a, str>, usize>,
    lists: Lists,
    /// Routes of VirtualServices; the first server's are those of all servers of the gateway.
    made: Vec<Option<Arc<Made>>>,
    /// Where those of a gateway's VirtualServices start.
    starts: HashMap<&'a str, usize>,
}

impl<'a> Hosts<'a> {
    fn add_server(&mut self, cx: &mut Cx<'_>, served: &'a Served, (question, bound): &'a Bound) {
        let redirects = served.server().tls.as_ref().is_some_and(|t| t.https_redirect);
        let start = *self.starts.entry(&*served.gateway).or_insert(self.made.len());
        if start == self.made.len() {
            self.made.extend(bound.iter().map(|(_, made)| made.clone()));
        }
        let mut common = Vec::new();
        for (place, (config, _)) in (start..).zip(bound.iter()) {
            intersect(
                served.hosts_for(&config.meta.namespace),
                &config.spec.hosts,
                &mut common,
            );
            if common.is_empty() {
                continue;
            }
            let made = self.made[place].get_or_insert_with(|| {
                let place = Place {
                    port: served.server_port(),
                    is_tls: served.server().tls.is_some(),
                };
                cx.routes(question.routes(config, Some(place)))
            });
            if made.is_empty() {
                continue;
            }
            for name in common.drain(..) {
                let host = self.host(name, served, redirects);
                let list = self.list[host].routes;
                self.list[host].routes = self.lists.and(list, place);
            }
        }
        if redirects {
            for name in served.hosts() {
                self.host(name, served, redirects);
            }
        }
    }

    /// The place of a host.
    fn host(&mut self, name: &'a str, served: &Served, redirects: bool) -> usize {
        let name = host::lower(name);
        let place = *self.by_name.entry(name).or_insert_with_key(|name| {
            self.list.push(Host {
                name: name.clone(),
                port: served.server_port(),
                requires_tls: false,
                routes: Lists::NOTHING,
            });
            self.list.len() - 1
        });
        self.list[place].requires_tls |= redirects;
        place
    }

    /// Writes virtual hosts in order of their names; hosts with the same routes are one, named after the first.
    fn write(mut self, attempt_count: bool, out: &mut BytesMut) {
        let same = |host: &Host<'_>| (host.routes, host.requires_tls);
        self.list
            .sort_unstable_by(|a, b| same(a).cmp(&same(b)).then_with(|| a.name.cmp(&b.name)));
        let united = self.list.chunk_by(|a, b| same(a) == same(b));
        let mut named: Vec<(String, &[Host<'_>])> = united
            .map(|hosts| (format!("{}:{}", hosts[0].name, hosts[0].port), hosts))
            .collect();
        // Ports can make names alike; then the host decides, as without a port.
        named.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1[0].name.cmp(&b.1[0].name)));
        let rest = |requires_tls| {
            let requirement = if requires_tls {
                virtual_host::TlsRequirementType::All
            } else {
                virtual_host::TlsRequirementType::None
            };
            let host = VirtualHost {
                require_tls: requirement as i32,
                include_request_attempt_count: attempt_count,
                ..Default::default()
            };
            host.encode_to_vec()
        };
        let (plain, tls) = (LazyCell::new(|| rest(false)), LazyCell::new(|| rest(true)));
        let routes = |hosts: &[Host<'_>]| -> Vec<&Made> {
            let places = self.lists.places(hosts[0].routes);
            places.iter().filter_map(|place| self.made[*place].as_deref()).collect()
        };
        let ready: Vec<_> = named
            .into_iter()
            .map(|(name, hosts)| (name, hosts, routes(hosts)))
            .collect();
        let length = |(name, hosts, routes): &(String, &[Host<'_>], Vec<&Made>)| {
            let names: usize = hosts.iter().map(|host| host.name.len() + 4).sum();
            let routes: usize = routes.iter().map(|made| made.some.len() + made.all.len()).sum();
            name.len() + names + routes + 16
        };
        out.reserve(ready.iter().map(length).sum::<usize>() + TAIL.len());
        for (name, hosts, routes) in ready {
            // Routes that take everything come last.
            let some = routes.iter().map(|made| made.some.as_ref());
            let all = routes.iter().map(|made| made.all.as_ref());
            let rest = if hosts[0].requires_tls { &*tls } else { &*plain };
            let domains = hosts.iter().map(|host| &*host.name);
            kept::write(out, &name, domains, some.chain(all), rest);
        }
    }
}

/// Hosts that both lists cover, in the more specific form.
fn intersect<'a>(server: impl Iterator<Item = &'a str>, routes: &'a [String], common: &mut Vec<&'a str>) {
    common.clear();
    for s in server {
        for r in routes {
            let both = if host::covers(r, s) {
                s
            } else if host::covers(s, r) {
                r
            } else {
                continue;
            };
            if !common.contains(&both) {
                common.push(both);
            }
        }
    }
}
