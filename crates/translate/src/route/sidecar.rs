//! Routes of a sidecar's outbound listeners: one configuration per port, one virtual host per host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::networking::VirtualService;
use api::networking::sidecar::OutboundTrafficPolicy;
use bytes::{Bytes, BytesMut};
use mesh::{Config, Input, Protocol, Registry, Resolution, Service};
use prost::Message;
use prost::encoding::message;
use xds::envoy::config::route::v3::{self as route_v3, RouteConfiguration, VirtualHost, route, route_action};
use xds::resource::{ContentHash, Resource, ResourceSet};

use super::http::{self, Audience};
use super::{MAX_DIRECT_RESPONSE, hash};
use crate::client::Client;
use crate::graph::Cx;
use crate::host;
use crate::scope::{Egress, Scope};
use crate::{naming, proto};

/// Number of the field `virtual_hosts` in a route configuration.
const VIRTUAL_HOSTS: u32 = 2;
/// One virtual host in this many ends a part.
const CUT_EVERY: u8 = 2;

/// Whether some route or rule of the namespace depends on the labels of the client.
pub(super) fn selects_by_labels(cx: &mut Cx<'_>, client: &Client) -> bool {
    let scope = cx.scope_of(client.scope());
    let by_route = scope.virtual_services.iter().any(|vs| {
        vs.spec
            .http
            .iter()
            .any(|h| h.matches.iter().any(|m| !m.source_labels.is_empty()))
    });
    by_route || cx.rules().select_by_labels()
}

/// All route configurations that clients of the sort may ask for.
pub(crate) fn outbound(cx: &mut Cx<'_>, client: &Arc<Client>) -> Arc<ResourceSet> {
    let namespace = client.namespace.clone().unwrap_or_default();
    let scope = cx.scope_of(client.scope());
    let mesh = cx.read(Input::Mesh).mesh.clone();
    let domain = cx.domain();
    let mut ports: BTreeSet<u16> = BTreeSet::new();
    let mut sniffed: BTreeSet<(Arc<str>, u16)> = BTreeSet::new();
    // Name and what it binds to, of those that are for any port.
    let mut proxies: BTreeMap<String, (u16, String)> = BTreeMap::new();
    for egress in &scope.egress {
        match &egress.port {
            None => {
                for (service, port) in egress.services.iter().flat_map(|s| s.ports.iter().map(move |p| (s, p))) {
                    if port.protocol == Protocol::Unknown {
                        sniffed.insert((service.key.host.clone(), port.number));
                    }
                    if port.protocol == Protocol::Unknown || port.protocol.is_http() {
                        ports.insert(port.number);
                    }
                }
            }
            Some(port) if port.number == 0 => drop(proxies.insert(egress.bind.clone(), (0, egress.bind.clone()))),
            Some(port) if egress.is_for_any_port() => {
                proxies.insert(port.number.to_string(), (port.number, String::new()));
            }
            Some(port) => drop(ports.insert(port.number)),
        }
    }
    if mesh.proxy_http_port.0 != 0 {
        proxies.insert("http_proxy".to_owned(), (0, "http_proxy".to_owned()));
    }
    let hosts = |port: u16, egress| Hosts {
        client,
        scope: &scope,
        egress,
        mesh: &mesh,
        port,
        domain,
        namespace: &namespace,
    };
    let mut configurations = Vec::new();
    for port in ports {
        let Some(egress) = scope.egress_for(port, "") else {
            continue;
        };
        let mut virtual_hosts = hosts(port, egress).build(cx);
        virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
        for (host, _) in sniffed.iter().filter(|(_, p)| *p == port) {
            let mut own: Vec<VirtualHost> = virtual_hosts
                .iter()
                .filter(|v| v.domains.iter().any(|d| **d == **host))
                .cloned()
                .collect();
            if let [only] = own.as_mut_slice() {
                only.domains = vec!["*".to_owned()];
            }
            configurations.push(configuration(format!("{host}:{port}"), own));
        }
        virtual_hosts.push(catch_all(client, &scope.unknown));
        configurations.push(configuration(port.to_string(), virtual_hosts));
    }
    for (name, (port, bind)) in proxies {
        let Some(egress) = scope.egress_for(port, &bind) else {
            continue;
        };
        let mut virtual_hosts = hosts(0, egress).build(cx);
        virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
        virtual_hosts.push(catch_all(client, &scope.unknown));
        configurations.push(configuration(name, virtual_hosts));
    }
    Arc::new(ResourceSet::new(
        configurations.into_iter().map(|c| Arc::new(encode(cx, c))),
    ))
}

/// Encodes a configuration in parts. Those of two namespaces differ in a few virtual hosts only and share all other
/// parts; where a part ends is told by the name of its last host, so that a difference moves no later boundary.
fn encode(cx: &mut Cx<'_>, mut configuration: RouteConfiguration) -> Resource {
    let hosts = std::mem::take(&mut configuration.virtual_hosts);
    let mut parts = vec![Bytes::from(configuration.encode_to_vec())];
    let mut part = BytesMut::new();
    for host in &hosts {
        message::encode(VIRTUAL_HOSTS, host, &mut part);
        let ends = ContentHash::of(host.name.as_bytes()).as_bytes()[0].is_multiple_of(CUT_EVERY);
        if ends {
            // A copy, because a piece of the buffer would keep all of it.
            parts.push(cx.share(Bytes::copy_from_slice(&part)));
            part.clear();
        }
    }
    if !part.is_empty() {
        parts.push(cx.share(Bytes::copy_from_slice(&part)));
    }
    Resource::of_pieces::<RouteConfiguration>(configuration.name, parts)
}

fn configuration(name: String, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name,
        virtual_hosts,
        validate_clusters: Some(proto::bool_value(false)),
        max_direct_response_body_size_bytes: Some(proto::u32_value(MAX_DIRECT_RESPONSE)),
        ignore_port_in_host_matching: true,
        ..Default::default()
    }
}

/// What happens to requests for other hosts.
fn catch_all(client: &Client, policy: &OutboundTrafficPolicy) -> VirtualHost {
    let (name, action) = if policy.registry_only() {
        (
            "block_all",
            route::Action::DirectResponse(route_v3::DirectResponseAction {
                status: 502,
                ..Default::default()
            }),
        )
    } else {
        let cluster = match &policy.egress_proxy {
            Some(proxy) => {
                let port = proxy.port.as_ref().map_or(0, |p| p.number.0) as u16;
                naming::outbound(port, &proxy.subset, &proxy.host)
            }
            None => naming::PASSTHROUGH.to_owned(),
        };
        let forward = route_v3::RouteAction {
            cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster)),
            timeout: Some(proto::seconds(0)),
            max_grpc_timeout: Some(proto::seconds(0)),
            ..Default::default()
        };
        ("allow_any", route::Action::Route(forward))
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route_v3::Route {
            name: name.to_owned(),
            r#match: Some(super::everything()),
            action: Some(action),
            ..Default::default()
        }],
        include_request_attempt_count: client.attempt_count,
        ..Default::default()
    }
}

/// The virtual hosts of one port; port 0 stands for all ports (the HTTP proxy).
struct Hosts<'a> {
    client: &'a Client,
    scope: &'a Scope,
    egress: &'a Egress,
    mesh: &'a MeshConfig,
    port: u16,
    domain: &'a str,
    namespace: &'a str,
}

/// Hosts that share routes.
struct Group {
    port: u16,
    /// Hosts that no service has.
    names: Vec<String>,
    services: Vec<Arc<Service>>,
    routes: Vec<route_v3::Route>,
}

impl Hosts<'_> {
    fn build(&self, cx: &mut Cx<'_>) -> Vec<VirtualHost> {
        let mut open: BTreeMap<Arc<str>, Arc<Service>> = self
            .egress
            .services
            .iter()
            .filter(|s| self.port == 0 || s.port(self.port).is_some())
            .map(|s| (s.key.host.clone(), s.clone()))
            .collect();
        let mut groups = self.groups_of_virtual_services(cx, &open);
        for group in &groups {
            for service in &group.services {
                open.remove(&service.key.host);
            }
        }
        for service in open.values() {
            self.push_default(cx, service, &mut groups);
        }
        self.assemble(&groups)
    }

    fn groups_of_virtual_services(&self, cx: &mut Cx<'_>, services: &BTreeMap<Arc<str>, Arc<Service>>) -> Vec<Group> {
        let mesh_gateway = ["mesh".to_owned()];
        let relevant: Vec<&Arc<Config<VirtualService>>> = self
            .egress
            .virtual_services
            .iter()
            .filter(|vs| {
                self.port == 80
                    || vs
                        .spec
                        .hosts
                        .iter()
                        .any(|h| services.keys().any(|s| host::overlap(h, s)))
            })
            .collect();
        let mut groups = Vec::new();
        for config in &relevant {
            let to = Audience {
                client: self.client,
                scope: self.scope,
                mesh: self.mesh,
                listener_port: self.port,
                gateways: &mesh_gateway,
                is_tls: false,
            };
            let routes = http::routes(cx, &to, config);
            if routes.is_empty() {
                continue;
            }
            let (names, matched) = self.hosts_of(config, &relevant, services);
            let mut by_port: BTreeMap<u16, Vec<Arc<Service>>> = BTreeMap::new();
            for service in matched {
                for port in service.ports.iter().filter(|p| self.port == 0 || p.number == self.port) {
                    if port.protocol.is_http() || port.protocol.is_unknown() {
                        by_port.entry(port.number).or_default().push(service.clone());
                    }
                }
            }
            // Hosts that no service has are served on the port of HTTP.
            if by_port.is_empty() && self.port == 80 {
                by_port.insert(80, Vec::new());
            }
            for (port, services) in by_port {
                groups.push(Group {
                    port,
                    names: names.clone(),
                    services,
                    routes: routes.clone(),
                });
            }
        }
        groups
    }

    /// A VirtualService's hosts that no service has, and the services that it is for.
    fn hosts_of(
        &self,
        config: &Config<VirtualService>,
        all: &[&Arc<Config<VirtualService>>],
        services: &BTreeMap<Arc<str>, Arc<Service>>,
    ) -> (Vec<String>, Vec<Arc<Service>>) {
        let (mut names, mut matched) = (Vec::new(), Vec::new());
        for name in &config.spec.hosts {
            if !host::is_wildcard(name) {
                match services.get(name.as_str()) {
                    Some(service) => matched.push(service.clone()),
                    None => names.push(name.clone()),
                }
            }
        }
        for pattern in config.spec.hosts.iter().filter(|h| host::is_wildcard(h)) {
            let covered: Vec<&Arc<Service>> = services
                .values()
                .filter(|s| host::covers(pattern, &s.key.host))
                .collect();
            if covered.is_empty() {
                names.push(pattern.clone());
            }
            // Of several patterns that cover a service, the most specific one has it.
            matched.extend(
                covered
                    .into_iter()
                    .filter(|s| self.owner(all, &s.key.host).is_some_and(|o| std::ptr::eq(o, config)))
                    .cloned(),
            );
        }
        (names, matched)
    }

    fn owner<'b>(&self, all: &'b [&'b Arc<Config<VirtualService>>], name: &str) -> Option<&'b Config<VirtualService>> {
        let mut best: Option<(&str, &Config<VirtualService>)> = None;
        for config in all {
            for pattern in config.spec.hosts.iter().filter(|h| host::covers(h, name)) {
                let better = best.is_none_or(|(other, _)| host::by_specificity(pattern, other).is_lt());
                if better {
                    best = Some((pattern, config));
                }
            }
        }
        best.map(|(_, config)| config)
    }

    fn push_default(&self, cx: &mut Cx<'_>, service: &Arc<Service>, groups: &mut Vec<Group>) {
        let host = &service.key.host;
        let to = Audience {
            client: self.client,
            scope: self.scope,
            mesh: self.mesh,
            listener_port: self.port,
            gateways: &[],
            is_tls: false,
        };
        for port in service.ports.iter().filter(|p| self.port == 0 || p.number == self.port) {
            if port.protocol.is_http() || port.protocol.is_unknown() {
                let hash = hash::of_destination(cx, self.client, self.scope, host, "", port.number);
                let cluster = naming::outbound(port.number, "", host);
                let route = http::default_route(&to, cluster, format!("{host}:{}/*", port.number), hash);
                groups.push(Group {
                    port: port.number,
                    names: Vec::new(),
                    services: vec![service.clone()],
                    routes: vec![route],
                });
            }
        }
    }

    fn assemble(&self, groups: &[Group]) -> Vec<VirtualHost> {
        let known: BTreeSet<&str> = groups
            .iter()
            .flat_map(|g| g.services.iter().map(|s| &*s.key.host))
            .collect();
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let mut virtual_hosts = Vec::new();
        for group in groups {
            let without = group.names.iter().map(|name| {
                let name = name.to_ascii_lowercase();
                (name.clone(), vec![bracketed(&name)], Vec::new())
            });
            let with = group.services.iter().map(|service| {
                let (domains, short) = self.domains(service, group.port);
                (service.key.host.to_string(), domains, short)
            });
            for (host, domains, short) in without.chain(with) {
                let name = format!("{host}:{}", group.port);
                if !names.insert(name.clone()) {
                    continue;
                }
                let mut own = Vec::new();
                for domain in domains {
                    // A short form may be the full name of another service, which has the better claim.
                    let claimed = short.contains(&domain) && known.contains(domain.as_str());
                    if !claimed && taken.insert(domain.to_ascii_lowercase()) {
                        own.push(domain);
                    }
                }
                if self.port == 0 && group.port != 80 {
                    own.retain(|d| d.contains(':'));
                }
                if !own.is_empty() {
                    virtual_hosts.push(VirtualHost {
                        name,
                        domains: own,
                        routes: group.routes.clone(),
                        include_request_attempt_count: self.client.attempt_count,
                        ..Default::default()
                    });
                }
            }
        }
        virtual_hosts
    }

    /// Names under which a service is addressed, and which of them are short forms.
    fn domains(&self, service: &Service, port: u16) -> (Vec<String>, Vec<String>) {
        let with_port = self.port == 0;
        let mut domains: Vec<String> = Vec::new();
        let mut short: Vec<String> = Vec::new();
        let push = |list: &mut Vec<String>, name: String| {
            if with_port {
                list.push(format!("{name}:{port}"));
            }
            list.push(name);
        };
        let aliases = self.scope.aliases.get(&service.key.host).into_iter().flatten();
        for host in std::iter::once(&service.key.host).chain(aliases.map(|a| &a.key.host)) {
            push(&mut domains, host.to_string());
            let mut alternatives = Vec::new();
            if host.parse::<std::net::IpAddr>().is_err() {
                push(&mut alternatives, format!("{host}."));
            }
            let suffix = format!(".svc.{}", self.domain);
            if let Some((name, namespace)) = host.strip_suffix(&suffix).and_then(|rest| rest.split_once('.')) {
                if namespace == self.namespace {
                    push(&mut alternatives, name.to_owned());
                }
                push(&mut alternatives, format!("{name}.{namespace}.svc"));
                push(&mut alternatives, format!("{name}.{namespace}"));
            }
            short.extend(alternatives.iter().cloned());
            domains.extend(alternatives);
        }
        // Pods of a headless service are addressed by names of their own.
        if service.resolution == Resolution::Passthrough && service.registry == Registry::Kubernetes {
            let wild: Vec<String> = domains.iter().map(|d| format!("*.{d}")).collect();
            domains.extend(wild);
        }
        for address in &service.addresses {
            let v6 = address.contains(':');
            if (v6 && self.client.ipv6) || (!v6 && self.client.ipv4) {
                push(&mut domains, bracketed(address));
            }
        }
        (domains, short)
    }
}

/// An IPv6 address as it stands in a URL.
fn bracketed(host: &str) -> String {
    if host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}
