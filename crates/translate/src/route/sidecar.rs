//! Routes of a sidecar's outbound listeners: one configuration per port, one virtual host per host.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::networking::sidecar::OutboundTrafficPolicy;
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use mesh::{Protocol, Service};
use prost::Message;
use xds::envoy::config::route::v3::{self as route_v3, RouteConfiguration, VirtualHost, route, route_action};
use xds::resource::{Resource, ResourceSet};

use super::MAX_DIRECT_RESPONSE;
use super::domains::{Claims, Domains};
use super::kept::{self, Kept, Naming, bracketed};
use super::made::{self, Made, Place};
use super::virtual_services::Ready;
use crate::client::Client;
use crate::graph::Cx;
use crate::host;
use crate::proto;
use crate::query::Query;
use crate::scope::{self, Egress, Scope};

/// All route configurations that clients of the sort may ask for.
pub(crate) fn outbound(cx: &mut Cx<'_>, client: &Arc<Client>) -> Arc<ResourceSet> {
    let namespace = client.namespace.clone().unwrap_or_default();
    let scope = cx.scope_of(client.scope());
    let mesh = cx.mesh().clone();
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
    let anyone = kept::anyone(client);
    let hosts = |port: u16, egress| Hosts {
        client,
        anyone: anyone.clone(),
        common: Arc::default(),
        scope: &scope,
        egress,
        port,
        domain,
        namespace: &namespace,
    };
    let last = Arc::new(Kept::new(&catch_all(client, &scope.unknown)));
    let mut configurations = Vec::new();
    for port in ports {
        let Some(egress) = scope.egress_for(port, "") else {
            continue;
        };
        let mut virtual_hosts = hosts(port, egress).build(cx);
        let of_port = sniffed.iter().filter(|(_, p)| *p == port).map(|(host, _)| host);
        configurations.extend(sniffed_routes(cx, of_port, port, &virtual_hosts));
        virtual_hosts.push(last.clone());
        configurations.push(configuration(port.to_string(), &virtual_hosts));
    }
    for (name, (port, bind)) in proxies {
        let Some(egress) = scope.egress_for(port, &bind) else {
            continue;
        };
        let mut virtual_hosts = hosts(0, egress).build(cx);
        virtual_hosts.push(last.clone());
        configurations.push(configuration(name, &virtual_hosts));
    }
    Arc::new(ResourceSet::new(configurations))
}

/// A configuration for each of the hosts whose protocol is found out by looking.
fn sniffed_routes<'a>(
    cx: &mut Cx<'_>,
    names: impl Iterator<Item = &'a Arc<str>>,
    port: u16,
    all: &[Arc<Kept>],
) -> Vec<Arc<Resource>> {
    let mut names = names.peekable();
    let mut by_domain: HashMap<&str, Vec<&Arc<Kept>>> = HashMap::new();
    if names.peek().is_some() {
        for (domain, host) in all.iter().flat_map(|v| v.domains.names().map(move |d| (d, v))) {
            let hosts = by_domain.entry(domain).or_default();
            if hosts.last().is_none_or(|last| !Arc::ptr_eq(last, host)) {
                hosts.push(host);
            }
        }
    }
    let of_name = |name: &Arc<str>| {
        let own = by_domain.get(&**name).into_iter().flatten();
        cx.resource(&Query::SniffedRoutes(Arc::new(Sniffed {
            name: format!("{name}:{port}"),
            hosts: own.map(|kept| Arc::clone(kept)).collect(),
        })))
    };
    names.filter_map(of_name).collect()
}

/// Routes for one host on a port whose protocol is found out by looking.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sniffed {
    name: String,
    hosts: Vec<Arc<Kept>>,
}

/// Which it is of two questions is nearly always told by the name.
impl Hash for Sniffed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The answer to [`Query::SniffedRoutes`]: a host that is alone has all requests.
pub(crate) fn sniffed(question: &Sniffed) -> Arc<Resource> {
    let name = question.name.clone();
    let [only] = question.hosts.as_slice() else {
        return configuration(name, &question.hosts);
    };
    let mut host = only.decode();
    host.domains = vec!["*".to_owned()];
    configuration(name, &[Arc::new(Kept::new(&host))])
}

fn configuration(name: String, hosts: &[Arc<Kept>]) -> Arc<Resource> {
    let frame = RouteConfiguration {
        name,
        validate_clusters: Some(proto::bool_value(false)),
        max_direct_response_body_size_bytes: Some(proto::u32_value(MAX_DIRECT_RESPONSE)),
        ignore_port_in_host_matching: true,
        ..Default::default()
    };
    let mut parts = vec![Bytes::from(frame.encode_to_vec())];
    parts.extend(hosts.iter().map(|host| host.bytes.clone()));
    Arc::new(Resource::of_pieces::<RouteConfiguration>(frame.name, parts))
}

/// What happens to requests for other hosts.
fn catch_all(client: &Client, policy: &OutboundTrafficPolicy) -> VirtualHost {
    let (name, action) = match scope::cluster_of_unknown(policy) {
        None => (
            "block_all",
            route::Action::DirectResponse(route_v3::DirectResponseAction {
                status: 502,
                ..Default::default()
            }),
        ),
        Some(cluster) => {
            let forward = route_v3::RouteAction {
                cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster)),
                timeout: Some(proto::seconds(0)),
                max_grpc_timeout: Some(proto::seconds(0)),
                ..Default::default()
            };
            ("allow_any", route::Action::Route(forward))
        }
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
    anyone: Arc<Client>,
    /// Virtual hosts of services, by the place of the service in what is seen.
    common: Arc<Vec<Option<Arc<Kept>>>>,
    scope: &'a Scope,
    egress: &'a Egress,
    port: u16,
    domain: &'a str,
    namespace: &'a str,
}

/// Hosts of services, to find out whether some is meant without a look at all.
struct Names<'a> {
    /// In lower case.
    exact: HashSet<Cow<'a, str>>,
    patterns: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn of(hosts: impl Iterator<Item = &'a str>) -> Self {
        let (patterns, exact): (Vec<&str>, Vec<&str>) = hosts.partition(|host| host::is_wildcard(host));
        Self {
            exact: exact.into_iter().map(host::lower).collect(),
            patterns,
        }
    }

    /// Whether a host or pattern has a host in common with them.
    fn overlap(&self, name: &str) -> bool {
        let exact = if host::is_wildcard(name) {
            self.exact.iter().any(|host| host::covers(name, host))
        } else {
            self.exact.contains(&host::lower(name))
        };
        exact || self.patterns.iter().any(|pattern| host::overlap(pattern, name))
    }
}

/// Hosts that share routes.
struct Group {
    port: u16,
    /// Hosts that no service has.
    names: Vec<String>,
    services: Vec<Arc<Service>>,
    /// Routes of a VirtualService; those of a service without one are the service's own.
    routes: Option<Arc<Made>>,
}

impl Hosts<'_> {
    /// In order of their names.
    fn build(mut self, cx: &mut Cx<'_>) -> Vec<Arc<Kept>> {
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
        // Where VirtualServices have most services, the others are asked for one by one.
        let served = open.len() + groups.iter().map(|group| group.services.len()).sum::<usize>();
        if self.port != 0 && 2 * open.len() >= served {
            let (client, seen) = (self.anyone.clone(), self.scope.seen.clone());
            self.common = cx.virtual_hosts(&Query::VirtualHosts(client, seen, self.port));
        }
        for service in open.values() {
            self.push_default(service, &mut groups);
        }
        let mut hosts = self.assemble(cx, &groups);
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts
    }

    fn groups_of_virtual_services(&self, cx: &mut Cx<'_>, services: &BTreeMap<Arc<str>, Arc<Service>>) -> Vec<Group> {
        let gateway: Arc<str> = "mesh".into();
        let view = Arc::new(made::view(self.client));
        let names = Names::of(services.keys().map(|host| &**host));
        let relevant: Vec<&Ready> = self
            .egress
            .virtual_services
            .iter()
            .filter(|vs| self.port == 80 || vs.spec.hosts.iter().any(|host| names.overlap(host)))
            .collect();
        let mut groups = Vec::new();
        for config in &relevant {
            let routes = cx.routes(made::Question {
                config: (*config).clone(),
                gateway: gateway.clone(),
                place: Some(Place {
                    port: self.port,
                    is_tls: false,
                }),
                scope: self.client.scope(),
                client: view.clone(),
            });
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
                    routes: Some(routes.clone()),
                });
            }
        }
        groups
    }

    /// A VirtualService's hosts that no service has, and the services that it is for.
    fn hosts_of(
        &self,
        config: &Ready,
        all: &[&Ready],
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

    fn owner<'b>(&self, all: &[&'b Ready], name: &str) -> Option<&'b Ready> {
        let mut best: Option<(&str, &Ready)> = None;
        for config in all.iter().copied() {
            for pattern in config.spec.hosts.iter().filter(|h| host::covers(h, name)) {
                let better = best.is_none_or(|(other, _)| host::by_specificity(pattern, other).is_lt());
                if better {
                    best = Some((pattern, config));
                }
            }
        }
        best.map(|(_, config)| config)
    }

    fn push_default(&self, service: &Arc<Service>, groups: &mut Vec<Group>) {
        for port in service.ports.iter().filter(|p| self.port == 0 || p.number == self.port) {
            if port.protocol.is_http() || port.protocol.is_unknown() {
                groups.push(Group {
                    port: port.number,
                    names: Vec::new(),
                    services: vec![service.clone()],
                    routes: None,
                });
            }
        }
    }

    fn assemble(&self, cx: &mut Cx<'_>, groups: &[Group]) -> Vec<Arc<Kept>> {
        let known = groups
            .iter()
            .flat_map(|g| g.services.iter().map(|s| &*s.key.host))
            .collect();
        let mut claims = Claims::among(known);
        let mut hosts = Vec::new();
        for group in groups {
            for name in &group.names {
                let name = name.to_ascii_lowercase();
                let mut domains = Domains::default();
                domains.push(std::iter::once(&*bracketed(&name)), false);
                if let Some(routes) = &group.routes {
                    hosts.extend(self.with_routes(group, &name, &domains, &mut claims, routes));
                }
            }
            for service in &group.services {
                hosts.extend(self.of_service(cx, group, service, &mut claims));
            }
        }
        hosts
    }

    fn of_service(
        &self,
        cx: &mut Cx<'_>,
        group: &Group,
        service: &Arc<Service>,
        claims: &mut Claims<'_>,
    ) -> Option<Arc<Kept>> {
        let aliases = self.scope.aliases.get(&service.key.host);
        if group.routes.is_none() && aliases.is_none() && self.port != 0 {
            let kept = self
                .of_anyone(service)
                .or_else(|| kept::of_service(cx, self.client, &self.anyone, service, group.port, self.namespace));
            if let Some(kept) = kept.filter(|kept| claims.take_all(kept)) {
                return Some(kept);
            }
        }
        let naming = Naming {
            client: self.client,
            suffix: self.domain,
            namespace: self.namespace,
            with_port: self.port == 0,
        };
        let aliases = aliases.into_iter().flatten().map(|alias| &alias.key.host);
        let domains = naming.domains(service, aliases, group.port);
        if let Some(routes) = &group.routes {
            return self.with_routes(group, &service.key.host, &domains, claims, routes);
        }
        let routes = kept::default_routes(cx, self.client, service, group.port);
        self.with_routes(group, &service.key.host, &domains, claims, &routes)
    }

    /// The virtual host that clients of most namespaces have in common.
    fn of_anyone(&self, service: &Service) -> Option<Arc<Kept>> {
        let common = self.common.get(self.scope.seen.place(&service.key.host)?)?.as_ref()?;
        (!kept::is_local(service, self.domain, self.namespace)).then(|| common.clone())
    }

    /// A virtual host with these routes, and those of the domains that nobody has.
    fn with_routes(
        &self,
        group: &Group,
        host: &str,
        domains: &Domains,
        claims: &mut Claims<'_>,
        routes: &Made,
    ) -> Option<Arc<Kept>> {
        let name = format!("{host}:{}", group.port);
        let mut own = claims.take(&name, domains)?;
        // Clients of a proxy for any port name the port that they want.
        if self.port == 0 && group.port != 80 {
            let all = std::mem::take(&mut own);
            let with_port = all.names().filter(|name| name.contains(':'));
            with_port.for_each(|name| own.push(std::iter::once(name), false));
        }
        (!own.is_empty()).then(|| Arc::new(Kept::of_routes(&name, own, routes, self.client)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_overlap_are_found_by_name() {
        let hosts = ["a.com", "B.com", "*.c.com", "x.d.com"];
        let names = Names::of(hosts.into_iter());
        for name in [
            "a.com",
            "A.COM",
            "b.com",
            "y.c.com",
            "*.c.com",
            "*.d.com",
            "*.com",
            "*",
            "*.z.c.com",
            "e.com",
            "c.com",
            "*.e.com",
        ] {
            let expected = hosts.iter().any(|host| host::overlap(name, host));
            assert_eq!(names.overlap(name), expected, "{name}");
        }
    }
}
