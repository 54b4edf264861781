//! Servers of Gateway objects, merged by port: who shares a listener, who is in conflict.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::networking::Gateway;
use api::networking::gateway::Server;
use hashbrown::HashMap;
use mesh::{Config, Protocol};

use crate::cluster::Target;
use crate::graph::{ClassId, Cx};
use crate::proxy::ProxyClass;

/// Label of a Service whose ports are not translated.
const NO_PORT_TRANSLATION: &str = "experimental.istio.io/disable-gateway-port-translation";

/// A server in its place.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    config: Arc<Config<Gateway>>,
    /// Place among the servers of its Gateway.
    index: usize,
    /// `namespace/name` of its Gateway.
    pub(crate) gateway: Arc<str>,
    /// Hosts, if they are not as they are written: `.` means the Gateway's namespace, `*` any.
    hosts: Option<Vec<String>>,
    protocol: Protocol,
    /// Port that its clients name.
    port: u16,
    /// Name of its route configuration; empty without HTTP.
    pub(crate) route: Arc<str>,
}

impl PartialEq for Served {
    fn eq(&self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.config, &other.config) && self.index == other.index;
        self.route == other.route && (same || (self.gateway == other.gateway && self.server() == other.server()))
    }
}

/// What a server says contains no number that differs from itself.
impl Eq for Served {}

impl Hash for Served {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.gateway.hash(state);
        self.route.hash(state);
        self.server().name.hash(state);
    }
}

impl Served {
    fn new(config: &Arc<Config<Gateway>>, index: usize, gateway: &Arc<str>, port: u16, routes: &RouteNames) -> Self {
        let server = &config.spec.servers[index];
        let (namespace, protocol) = (&*config.meta.namespace, protocol(server));
        let hosts = server.hosts.iter().any(|host| host.contains('/'));
        Self {
            config: config.clone(),
            index,
            gateway: gateway.clone(),
            hosts: hosts.then(|| own_hosts(&server.hosts, namespace)),
            protocol,
            port,
            route: routes.of_server(server, protocol, config),
        }
    }

    /// The server as it is written.
    pub(crate) fn server(&self) -> &Server {
        &self.config.spec.servers[self.index]
    }

    /// Hosts: `host` or `namespace/host`.
    pub(crate) fn hosts(&self) -> &[String] {
        self.hosts.as_deref().unwrap_or(&self.server().hosts)
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn server_port(&self) -> u16 {
        self.port
    }

    pub(crate) fn mode(&self) -> &str {
        mode(self.server())
    }

    pub(crate) fn is_passthrough(&self) -> bool {
        is_passthrough(self.server())
    }

    pub(crate) fn terminates_https(&self) -> bool {
        terminates_https(self.server(), self.protocol)
    }

    fn is_http(&self) -> bool {
        self.protocol().is_http() || self.terminates_https()
    }

    fn is_tls(&self) -> bool {
        self.server().tls.is_some() && !self.protocol().is_http()
    }

    /// Names of the server, without namespaces.
    pub(crate) fn sni(&self) -> Vec<String> {
        let name = |host: &String| host.split_once('/').map_or(host.as_str(), |(_, h)| h).to_owned();
        let mut names: Vec<String> = match &self.hosts {
            None => self.server().hosts.clone(),
            Some(hosts) => hosts.iter().map(name).collect(),
        };
        names.sort();
        names.dedup();
        names
    }

    /// Hosts of the server that objects of a namespace may serve.
    pub(crate) fn hosts_for<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a str> + Clone {
        let names_namespaces = self.hosts.is_some();
        let of_namespace = move |host: &'a String| {
            if !names_namespaces {
                return Some(host.as_str());
            }
            match host.split_once('/') {
                None => Some(host.as_str()),
                Some((of, host)) => (of == namespace).then_some(host),
            }
        };
        self.hosts().iter().filter_map(of_namespace)
    }
}

fn server_port(server: &Server) -> Option<u16> {
    server.port.as_ref().and_then(|p| u16::try_from(p.number.0).ok())
}

fn protocol(server: &Server) -> Protocol {
    server
        .port
        .as_ref()
        .map_or(Protocol::Unknown, |p| Protocol::parse(&p.protocol))
}

fn mode(server: &Server) -> &str {
    server
        .tls
        .as_ref()
        .and_then(|t| t.mode.as_deref())
        .unwrap_or("PASSTHROUGH")
}

fn is_passthrough(server: &Server) -> bool {
    server.tls.is_some() && matches!(mode(server), "PASSTHROUGH" | "AUTO_PASSTHROUGH")
}

fn terminates_https(server: &Server, protocol: Protocol) -> bool {
    server.tls.is_some() && protocol == Protocol::Https && !is_passthrough(server)
}

/// Servers of one port and address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) port: u16,
    pub(crate) bind: String,
    pub(crate) protocol: Protocol,
    pub(crate) route: Arc<str>,
    pub(crate) servers: Vec<Arc<Served>>,
}

/// All servers of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Merged {
    pub(crate) groups: Vec<Group>,
    /// Servers by the route configuration that they ask for.
    pub(crate) by_route: HashMap<Arc<str>, Arc<Vec<Arc<Served>>>>,
}

/// Claims names for a bind address; false if one is taken there already.
pub(super) fn claim<'a, S>(taken: &mut HashMap<S, S>, names: &'a [String], bind: &'a str) -> bool
where
    S: From<&'a str> + Borrow<str> + Eq + Hash,
{
    let is_taken = |name: &String| taken.get(name.as_str()).is_some_and(|b| b.borrow() == bind);
    if names.iter().any(is_taken) {
        return false;
    }
    taken.extend(names.iter().map(|name| (name.as_str().into(), bind.into())));
    true
}

/// The answer to [`crate::query::Query::Servers`]: the servers of all Gateways that select the workload, merged, older
/// first.
pub(crate) fn merged_servers(cx: &mut Cx<'_>, class: &ProxyClass, id: ClassId) -> Merged {
    let targets = cx.targets(id);
    let mut gateways = selecting(cx, class);
    gateways.sort_by(|a, b| a.meta.age_order(&b.meta));
    let mut ports: BTreeMap<u16, (u16, RouteNames)> = BTreeMap::new();
    let mut all: Vec<(u16, Arc<Served>)> = Vec::new();
    for gateway in gateways {
        let name: Arc<str> = format!("{}/{}", gateway.meta.namespace, gateway.meta.name).into();
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            let Some(number) = server_port(server) else { continue };
            let (port, routes) = ports.entry(number).or_insert_with(|| {
                let port = target_port(&targets, number);
                (port, RouteNames::new(number, port))
            });
            all.push((*port, Arc::new(Served::new(gateway, index, &name, number, routes))));
        }
    }
    let mut state = Merging::default();
    for (port, served) in &all {
        state.add(served, *port);
    }
    state.merged
}

/// The answer to [`crate::query::Query::PassesThrough`]: whether a server passes mutual TLS through to any service.
pub(crate) fn passes_through(cx: &mut Cx<'_>, class: &ProxyClass, id: ClassId) -> bool {
    const MODE: &str = "AUTO_PASSTHROUGH";
    // Most gateways have none, whatever becomes of their servers.
    let mut written = selecting(cx, class)
        .into_iter()
        .flat_map(|gateway| &gateway.spec.servers);
    written.any(|server| mode(server) == MODE)
        && cx
            .servers(id)
            .groups
            .iter()
            .any(|group| group.servers.iter().any(|served| served.mode() == MODE))
}

/// The Gateways that select the workload.
fn selecting<'a>(cx: &mut Cx<'a>, class: &ProxyClass) -> Vec<&'a Arc<Config<Gateway>>> {
    let selects = |gateway: &&Arc<Config<Gateway>>| {
        let mut labels = gateway.spec.selector.iter();
        labels.all(|(key, value)| class.workload_labels.get(key) == Some(value))
    };
    cx.all().iter().filter(selects).collect()
}

/// Port of the workload behind a port of its Service.
fn target_port(targets: &[Target], number: u16) -> u16 {
    targets
        .iter()
        .flat_map(|t| t.services.iter().map(|(service, port)| (t.port, service, port)))
        .filter(|(_, service, port)| port.number == number && !service.labels.contains_key(NO_PORT_TRANSLATION))
        .min_by(|a, b| a.1.age_order(b.1))
        .map_or(number, |(port, ..)| port)
}

#[derive(Default)]
struct Merging<'a> {
    merged: Merged,
    ports: BTreeSet<u16>,
    /// Index of the group of plain servers of a port.
    plain: BTreeMap<u16, usize>,
    tls_hosts: BTreeMap<u16, HashMap<&'a str, &'a str>>,
}

impl<'a> Merging<'a> {
    fn add(&mut self, served: &'a Arc<Served>, port: u16) {
        let server = served.server();
        let (protocol, bind) = (served.protocol(), server.bind.as_str());
        if server.tls.is_some() && !claim(self.tls_hosts.entry(port).or_default(), served.hosts(), bind) {
            return;
        }
        if self.ports.insert(port) {
            self.start(served, port);
            return;
        }
        if let Some(current) = self.plain.get(&port).copied() {
            let group = &mut self.merged.groups[current];
            let mergeable = (protocol.is_http() || protocol == group.protocol) && group.protocol.is_http();
            if group.bind == bind {
                if mergeable && !served.route.is_empty() {
                    group.servers.push(served.clone());
                    self.add_route(served);
                }
            } else if let Some(group) = self.group(port, bind, protocol) {
                group.route = served.route.clone();
                group.servers.push(served.clone());
                self.add_route(served);
            } else {
                self.start(served, port);
            }
            return;
        }
        if !served.is_tls() {
            self.start(served, port);
            return;
        }
        if served.is_http() {
            if served.route.is_empty() || self.merged.by_route.contains_key(&served.route) {
                return;
            }
            self.add_route(served);
        }
        match self.group(port, bind, protocol) {
            Some(group) => group.servers.push(served.clone()),
            None => self.push_group(served, port),
        }
    }

    fn start(&mut self, served: &Arc<Served>, port: u16) {
        if !served.is_tls() {
            self.plain.insert(port, self.merged.groups.len());
        }
        if served.is_http() {
            let only = Arc::new(vec![served.clone()]);
            self.merged.by_route.insert(served.route.clone(), only);
        }
        self.push_group(served, port);
    }

    fn add_route(&mut self, served: &Arc<Served>) {
        let servers = self.merged.by_route.entry(served.route.clone()).or_default();
        Arc::make_mut(servers).push(served.clone());
    }

    fn push_group(&mut self, served: &Arc<Served>, port: u16) {
        self.merged.groups.push(Group {
            port,
            bind: served.server().bind.clone(),
            protocol: served.protocol(),
            route: served.route.clone(),
            servers: vec![served.clone()],
        });
    }

    fn group(&mut self, port: u16, bind: &str, protocol: Protocol) -> Option<&mut Group> {
        self.merged
            .groups
            .iter_mut()
            .find(|g| g.port == port && g.bind == bind && g.protocol == protocol)
    }
}

fn own_hosts(hosts: &[String], namespace: &str) -> Vec<String> {
    let own = |host: &String| match host.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(("*", name)) => name.to_owned(),
        _ => host.clone(),
    };
    hosts.iter().map(own).collect()
}

/// Names of route configurations of servers of a port.
struct RouteNames {
    /// What those of servers that terminate HTTPS start with.
    https: String,
    /// That of HTTP at every address.
    http: Arc<str>,
    none: Arc<str>,
}

impl RouteNames {
    fn new(number: u16, target: u16) -> Self {
        Self {
            https: format!("https.{number}"),
            http: format!("http.{target}").into(),
            none: "".into(),
        }
    }

    fn of_server(&self, server: &Server, protocol: Protocol, gateway: &Config<Gateway>) -> Arc<str> {
        let (bind, meta) = (server.bind.as_str(), &gateway.meta);
        let dot = if bind.is_empty() { "" } else { "." };
        if protocol.is_http() && bind.is_empty() {
            return self.http.clone();
        }
        if protocol.is_http() {
            return [&*self.http, dot, bind].concat().into();
        }
        match &server.port {
            Some(own) if terminates_https(server, protocol) => {
                let (port, name, namespace) = (own.name.as_str(), &*meta.name, &*meta.namespace);
                [&self.https, ".", port, ".", name, ".", namespace, dot, bind]
                    .concat()
                    .into()
            }
            _ => self.none.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn route_configurations_are_named_after_port_and_server() {
        let check = |server: &str, expected| {
            let text = format!(
                "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: main, namespace: edge}}, \
                 spec: {{servers: [{{hosts: [a.com], {server}}}]}}}}"
            );
            let mesh = testkit::mesh(&text, "").unwrap();
            let snapshot = mesh.snapshot();
            let gateway = snapshot.gateways.get("edge", "main").unwrap();
            let names = RouteNames::new(443, 8443);
            let served = Served::new(gateway, 0, &"edge/main".into(), 443, &names);
            assert_eq!(&*served.route, expected, "{server}");
        };
        let port = |protocol| format!("port: {{number: 443, name: web, protocol: {protocol}}}");
        let (http, https) = (port("HTTP"), port("HTTPS"));
        check(&http, "http.8443");
        check(&format!("{http}, bind: 1.2.3.4"), "http.8443.1.2.3.4");
        let tls = "tls: {mode: SIMPLE, credentialName: c}";
        check(&format!("{https}, {tls}"), "https.443.web.main.edge");
        check(
            &format!("{https}, {tls}, bind: 1.2.3.4"),
            "https.443.web.main.edge.1.2.3.4",
        );
        check(&format!("{https}, tls: {{mode: PASSTHROUGH}}"), "");
    }
}
