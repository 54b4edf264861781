//! Servers of Gateway objects, merged by port: who shares a listener, who is in conflict.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::networking::Gateway;
use api::networking::gateway::Server;
use mesh::{Config, Input, Kind, Protocol};

use crate::cluster::{self, Target};
use crate::graph::Cx;
use crate::proxy::ProxyClass;

/// Label of a Service whose ports are not translated.
const NO_PORT_TRANSLATION: &str = "experimental.istio.io/disable-gateway-port-translation";

/// A server in its place.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// `namespace/name` of its Gateway.
    pub(crate) gateway: String,
    /// The server; its hosts are `host` or `namespace/host`.
    pub(crate) server: Server,
    /// Name of its route configuration; empty without HTTP.
    pub(crate) route: String,
}

impl Served {
    pub(crate) fn protocol(&self) -> Protocol {
        protocol(&self.server)
    }

    pub(crate) fn server_port(&self) -> u16 {
        self.server
            .port
            .as_ref()
            .and_then(|p| u16::try_from(p.number.0).ok())
            .unwrap_or_default()
    }

    pub(crate) fn mode(&self) -> &str {
        mode(&self.server)
    }

    pub(crate) fn is_passthrough(&self) -> bool {
        is_passthrough(&self.server)
    }

    pub(crate) fn terminates_https(&self) -> bool {
        terminates_https(&self.server)
    }

    /// Names of the server, without namespaces.
    pub(crate) fn sni(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .server
            .hosts
            .iter()
            .map(|h| h.split_once('/').map_or(h.as_str(), |(_, h)| h).to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Hosts of the server that objects of a namespace may serve.
    pub(crate) fn hosts_for(&self, namespace: &str) -> Vec<String> {
        self.server
            .hosts
            .iter()
            .filter_map(|h| match h.split_once('/') {
                None => Some(h.clone()),
                Some((ns, host)) if ns == namespace => Some(host.to_owned()),
                Some(_) => None,
            })
            .collect()
    }
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

fn terminates_https(server: &Server) -> bool {
    server.tls.is_some() && protocol(server) == Protocol::Https && !is_passthrough(server)
}

fn is_http(server: &Server) -> bool {
    protocol(server).is_http() || terminates_https(server)
}

fn is_tls(server: &Server) -> bool {
    server.tls.is_some() && !protocol(server).is_http()
}

/// Servers of one port and address.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) port: u16,
    pub(crate) bind: String,
    pub(crate) protocol: Protocol,
    pub(crate) route: String,
    pub(crate) servers: Vec<Served>,
}

/// All servers of a workload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merged {
    pub(crate) groups: Vec<Group>,
    /// Servers by the route configuration that they ask for.
    pub(crate) by_route: BTreeMap<String, Vec<Served>>,
}

/// Claims names for a bind address; false if one is taken there already.
pub(super) fn claim(taken: &mut BTreeMap<String, String>, names: &[String], bind: &str) -> bool {
    if names.iter().any(|n| taken.get(n).is_some_and(|b| b == bind)) {
        return false;
    }
    taken.extend(names.iter().map(|n| (n.clone(), bind.to_owned())));
    true
}

/// Merges the servers of all Gateways that select the workload, older first.
pub(crate) fn merged_servers(cx: &mut Cx<'_>, class: &ProxyClass) -> Merged {
    let targets = cluster::targets(cx, class);
    let mut gateways: Vec<Arc<Config<Gateway>>> = cx
        .read(Input::Kind(Kind::Gateway))
        .gateways
        .iter()
        .filter(|g| {
            g.spec
                .selector
                .iter()
                .all(|(k, v)| class.workload_labels.get(k) == Some(v))
        })
        .cloned()
        .collect();
    gateways.sort_by(|a, b| a.meta.age_order(&b.meta));
    let mut state = Merging::default();
    for gateway in &gateways {
        for server in &gateway.spec.servers {
            let Some(number) = server.port.as_ref().and_then(|p| u16::try_from(p.number.0).ok()) else {
                continue;
            };
            state.add(gateway, server, target_port(&targets, number));
        }
    }
    state.merged
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
struct Merging {
    merged: Merged,
    ports: std::collections::BTreeSet<u16>,
    /// Index of the group of plain servers of a port.
    plain: BTreeMap<u16, usize>,
    tls_binds: BTreeMap<u16, std::collections::BTreeSet<String>>,
    tls_hosts: BTreeMap<u16, BTreeMap<String, String>>,
}

impl Merging {
    fn add(&mut self, gateway: &Config<Gateway>, server: &Server, port: u16) {
        let mut server = server.clone();
        own_hosts(&mut server, &gateway.meta.namespace);
        let route = route_name(&server, port, gateway);
        let protocol = protocol(&server);
        let bind = server.bind.clone();
        if server.tls.is_some() && !claim(self.tls_hosts.entry(port).or_default(), &server.hosts, &bind) {
            return;
        }
        let (http, tls, has_tls) = (is_http(&server), is_tls(&server), server.tls.is_some());
        let served = Served {
            gateway: format!("{}/{}", gateway.meta.namespace, gateway.meta.name),
            server,
            route: route.clone(),
        };
        if self.ports.insert(port) {
            self.start(port, bind, protocol, route, served, http, tls);
            return;
        }
        if let Some(current) = self.plain.get(&port).copied() {
            let (group_bind, group_protocol) = {
                let group = &self.merged.groups[current];
                (group.bind.clone(), group.protocol)
            };
            let mergeable = (protocol.is_http() || protocol == group_protocol) && group_protocol.is_http();
            if group_bind != bind {
                match self.position(port, &bind, protocol) {
                    None => self.start(port, bind, protocol, route, served, http, tls),
                    Some(index) => {
                        self.merged.groups[index].route.clone_from(&route);
                        self.merged.groups[index].servers.push(served.clone());
                        self.merged.by_route.entry(route).or_default().push(served);
                    }
                }
            } else if mergeable && !route.is_empty() {
                self.merged.groups[current].servers.push(served.clone());
                self.merged.by_route.entry(route).or_default().push(served);
            }
            return;
        }
        if !tls {
            self.start(port, bind, protocol, route, served, http, tls);
            return;
        }
        if http {
            if route.is_empty() || self.merged.by_route.contains_key(&route) {
                return;
            }
            self.merged.by_route.insert(route.clone(), vec![served.clone()]);
        }
        let new_bind = self.tls_binds.entry(port).or_default().insert(bind.clone());
        if !has_tls && !new_bind {
            return;
        }
        match self.position(port, &bind, protocol) {
            Some(index) => self.merged.groups[index].servers.push(served),
            None => self.merged.groups.push(Group {
                port,
                bind,
                protocol,
                route,
                servers: vec![served],
            }),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn start(
        &mut self,
        port: u16,
        bind: String,
        protocol: Protocol,
        route: String,
        served: Served,
        http: bool,
        tls: bool,
    ) {
        if !tls {
            self.plain.insert(port, self.merged.groups.len());
        }
        if http {
            self.merged.by_route.insert(route.clone(), vec![served.clone()]);
        }
        self.merged.groups.push(Group {
            port,
            bind,
            protocol,
            route,
            servers: vec![served],
        });
    }

    fn position(&self, port: u16, bind: &str, protocol: Protocol) -> Option<usize> {
        self.merged
            .groups
            .iter()
            .position(|g| g.port == port && g.bind == bind && g.protocol == protocol)
    }
}

/// `.` in a host means the Gateway's namespace, `*` any.
fn own_hosts(server: &mut Server, namespace: &str) {
    for host in &mut server.hosts {
        *host = match host.split_once('/') {
            Some((".", name)) => format!("{namespace}/{name}"),
            Some(("*", name)) => name.to_owned(),
            _ => host.clone(),
        };
    }
}

fn route_name(server: &Server, port: u16, gateway: &Config<Gateway>) -> String {
    let bind = if server.bind.is_empty() {
        String::new()
    } else {
        format!(".{}", server.bind)
    };
    if protocol(server).is_http() {
        return format!("http.{port}{bind}");
    }
    if terminates_https(server) {
        let own = server.port.clone().unwrap_or_default();
        let meta = &gateway.meta;
        return format!(
            "https.{}.{}.{}.{}{bind}",
            own.number.0, own.name, meta.name, meta.namespace
        );
    }
    String::new()
}
