//! Routes of gateways: the hosts that a server and a VirtualService agree on.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::mesh_config::MeshConfig;
use mesh::Input;
use xds::envoy::config::route::v3::{self as route_v3, RouteConfiguration, VirtualHost, virtual_host};

use super::http::{self, Audience};
use super::{MAX_DIRECT_RESPONSE, condition};
use crate::client::Client;
use crate::graph::Cx;
use crate::host;
use crate::listener::{Served, merged_servers};
use crate::proto;
use crate::proxy::ProxyClass;
use crate::scope::Scope;

pub(super) fn configurations(cx: &mut Cx<'_>, class: &ProxyClass) -> Vec<RouteConfiguration> {
    let merged = merged_servers(cx, class);
    let scope = cx.scope(&class.namespace);
    let mesh = cx.read(Input::Mesh).mesh.clone();
    let client = Client::of_class(class);
    merged
        .by_route
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, servers)| {
            Builder {
                scope: &scope,
                mesh: &mesh,
                client: &client,
            }
            .configuration(cx, name, servers)
        })
        .collect()
}

struct Builder<'a> {
    scope: &'a Arc<Scope>,
    mesh: &'a MeshConfig,
    client: &'a Client,
}

/// Identity of a set of routes: hosts with the same routes share a virtual host.
type Origin = Vec<(String, String)>;

struct Host {
    virtual_host: VirtualHost,
    origin: Origin,
}

impl Builder<'_> {
    fn configuration(&self, cx: &mut Cx<'_>, name: &str, servers: &[Served]) -> RouteConfiguration {
        let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
        let mut made: BTreeMap<Origin, Vec<route_v3::Route>> = BTreeMap::new();
        for served in servers {
            self.add_server(cx, served, &mut hosts, &mut made);
        }
        let mut virtual_hosts = if hosts.is_empty() {
            let port = servers.first().map(Served::server_port).unwrap_or_default();
            vec![VirtualHost {
                name: format!("blackhole:{port}"),
                domains: vec!["*".to_owned()],
                ..Default::default()
            }]
        } else {
            collapse(hosts)
        };
        virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
        RouteConfiguration {
            name: name.to_owned(),
            virtual_hosts,
            validate_clusters: Some(proto::bool_value(false)),
            ignore_port_in_host_matching: true,
            max_direct_response_body_size_bytes: Some(proto::u32_value(MAX_DIRECT_RESPONSE)),
            ..Default::default()
        }
    }

    fn add_server(
        &self,
        cx: &mut Cx<'_>,
        served: &Served,
        hosts: &mut BTreeMap<String, Host>,
        made: &mut BTreeMap<Origin, Vec<route_v3::Route>>,
    ) {
        let port = served.server_port();
        let redirects = served.server.tls.as_ref().is_some_and(|t| t.https_redirect);
        let require_tls = if redirects {
            virtual_host::TlsRequirementType::All
        } else {
            virtual_host::TlsRequirementType::None
        } as i32;
        let new = |name: &str| Host {
            virtual_host: VirtualHost {
                name: format!("{name}:{port}"),
                domains: vec![name.to_owned()],
                include_request_attempt_count: self.client.attempt_count,
                require_tls,
                ..Default::default()
            },
            origin: Vec::new(),
        };
        for config in self
            .scope
            .virtual_services
            .iter()
            .filter(|vs| vs.spec.gateways.contains(&served.gateway))
        {
            let common = intersection(&served.hosts_for(&config.meta.namespace), &config.spec.hosts);
            if common.is_empty() {
                continue;
            }
            let key = (
                served.gateway.clone(),
                format!("{}/{}", config.meta.name, config.meta.namespace),
            );
            let origin = vec![key.clone()];
            if !made.contains_key(&origin) {
                let gateways = [served.gateway.clone()];
                let to = Audience {
                    client: self.client,
                    scope: self.scope,
                    mesh: self.mesh,
                    listener_port: port,
                    gateways: &gateways,
                    is_tls: served.server.tls.is_some(),
                };
                made.insert(origin.clone(), http::routes(cx, &to, config));
            }
            let routes = &made[&origin];
            if routes.is_empty() {
                continue;
            }
            for name in common {
                let name = name.to_ascii_lowercase();
                let host = hosts.entry(name.clone()).or_insert_with(|| new(&name));
                host.virtual_host.routes.extend(routes.iter().cloned());
                host.origin.push(key.clone());
                if redirects {
                    host.virtual_host.require_tls = require_tls;
                }
            }
        }
        if redirects {
            for name in &served.server.hosts {
                let name = name.to_ascii_lowercase();
                let host = hosts.entry(name.clone()).or_insert_with(|| new(&name));
                host.virtual_host.require_tls = require_tls;
            }
        }
    }
}

/// Unites hosts with the same routes, and puts routes that take everything last.
fn collapse(hosts: BTreeMap<String, Host>) -> Vec<VirtualHost> {
    let mut kept: Vec<Host> = Vec::new();
    for (_, host) in hosts {
        let same = kept
            .iter_mut()
            .find(|k| k.origin == host.origin && k.virtual_host.require_tls == host.virtual_host.require_tls);
        match same {
            Some(first) => first.virtual_host.domains.extend(host.virtual_host.domains),
            None => kept.push(host),
        }
    }
    kept.into_iter()
        .map(|mut host| {
            let last = |route: &route_v3::Route| route.r#match.as_ref().is_some_and(condition::is_everything);
            host.virtual_host.routes.sort_by_key(last);
            host.virtual_host
        })
        .collect()
}

/// Hosts that both lists cover, in the more specific form.
fn intersection(server: &[String], routes: &[String]) -> Vec<String> {
    let mut common: Vec<String> = Vec::new();
    for s in server {
        for r in routes {
            let both = if host::covers(r, s) {
                s
            } else if host::covers(s, r) {
                r
            } else {
                continue;
            };
            if !common.contains(both) {
                common.push(both.clone());
            }
        }
    }
    common
}
