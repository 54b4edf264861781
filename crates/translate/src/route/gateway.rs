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
use crate::proto;
use crate::proxy::ProxyClass;
use crate::query::Query;
use crate::scope::ScopeKey;

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
    if !super::selects_by_labels(cx, &scope) {
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
    let name = question.name.to_string();
    let mut bytes = BytesMut::new();
    let head = RouteConfiguration {
        name: name.clone(),
        ..Default::default()
    };
    head.encode_raw(&mut bytes);
    if hosts.list.is_empty() {
        let port = question.servers.first().map(|s| s.server_port());
        let name = format!("blackhole:{}", port.unwrap_or_default());
        kept::write(&mut bytes, &name, ["*"].into_iter(), [].into_iter(), &[]);
    } else {
        hosts.write(question.attempt_count, &mut bytes);
    }
    bytes.extend_from_slice(&TAIL);
    Resource::of_pieces::<RouteConfiguration>(name, vec![bytes.freeze()])
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
    /// Places of its routes, in order: hosts with the same routes share a virtual host.
    origin: Vec<usize>,
}

/// Virtual hosts of a configuration.
#[derive(Default)]
struct Hosts<'a> {
    list: Vec<Host<'a>>,
    /// Places of hosts by their names.
    by_name: HashMap<Cow<'a, str>, usize>,
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
        for (place, (config, _)) in (start..).zip(bound.iter()) {
            let common = intersection(served.hosts_for(&config.meta.namespace), &config.spec.hosts);
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
            for name in common {
                let host = self.host(name, served, redirects);
                host.origin.push(place);
            }
        }
        if redirects {
            for name in served.hosts() {
                self.host(name, served, redirects);
            }
        }
    }

    fn host(&mut self, name: &'a str, served: &Served, redirects: bool) -> &mut Host<'a> {
        let name = host::lower(name);
        let place = *self.by_name.entry(name).or_insert_with_key(|name| {
            self.list.push(Host {
                name: name.clone(),
                port: served.server_port(),
                requires_tls: false,
                origin: Vec::new(),
            });
            self.list.len() - 1
        });
        let host = &mut self.list[place];
        host.requires_tls |= redirects;
        host
    }

    /// Writes virtual hosts in order of their names; hosts with the same routes are one, named after the first.
    fn write(&self, attempt_count: bool, out: &mut BytesMut) {
        let mut united: Vec<Vec<&Host<'_>>> = Vec::new();
        let mut by_origin: HashMap<(&[usize], bool), usize> = HashMap::new();
        for host in &self.list {
            let place = *by_origin
                .entry((&host.origin, host.requires_tls))
                .or_insert(united.len());
            match united.get_mut(place) {
                Some(hosts) => hosts.push(host),
                None => united.push(vec![host]),
            }
        }
        let mut named: Vec<(String, Vec<&Host<'_>>)> = Vec::with_capacity(united.len());
        for mut hosts in united {
            hosts.sort_by(|a, b| a.name.cmp(&b.name));
            if let Some(first) = hosts.first() {
                named.push((format!("{}:{}", first.name, first.port), hosts));
            }
        }
        // Ports can make names alike; then the host decides, as without a port.
        named.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1[0].name.cmp(&b.1[0].name)));
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
        for (name, hosts) in named {
            let host = hosts[0];
            // Routes that take everything come last.
            let routes = host.origin.iter().filter_map(|place| self.made[*place].as_deref());
            let some = routes.clone().map(|made| made.some.as_ref());
            let all = routes.map(|made| made.all.as_ref());
            let rest = if host.requires_tls { &*tls } else { &*plain };
            let domains = hosts.iter().map(|host| &*host.name);
            kept::write(out, &name, domains, some.chain(all), rest);
        }
    }
}

/// Hosts that both lists cover, in the more specific form.
fn intersection<'a>(server: impl Iterator<Item = &'a str>, routes: &'a [String]) -> Vec<&'a str> {
    let mut common: Vec<&str> = Vec::new();
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
    common
}
