//! Patches of route configurations, their virtual hosts and routes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use xds::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost, route};
use xds::google::protobuf::Any;
use xds::resource::Resource;

use super::place::{adds, place};
use super::{Operation, Patch, Patches, Side, merge};
use crate::graph::{ClassId, Cx};
use crate::proxy::ProxyClass;

/// What patches of routes apply to.
pub(super) const KINDS: &[&str] = &["ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"];

/// Ports that clients of a gateway see, by the name of the route configuration.
pub(super) type GatewayPorts = BTreeMap<String, BTreeSet<u32>>;

pub(super) fn gateway_ports(cx: &mut Cx<'_>, class: &ProxyClass, id: ClassId) -> GatewayPorts {
    if class.is_sidecar() {
        return GatewayPorts::new();
    }
    let merged = cx.servers(id);
    let ports = |servers: &[Arc<crate::listener::Served>]| servers.iter().map(|s| u32::from(s.server_port())).collect();
    merged
        .by_route
        .iter()
        .map(|(name, servers)| (name.to_string(), ports(servers)))
        .collect()
}

pub(super) fn apply(
    patches: &Patches,
    class: &ProxyClass,
    ports: &GatewayPorts,
    resources: Vec<Arc<Resource>>,
) -> Vec<Arc<Resource>> {
    let side = if class.is_sidecar() {
        Side::Outbound
    } else {
        Side::Gateway
    };
    let patched = |resource: Arc<Resource>| {
        let any = Any::decode(resource.body.to_bytes()).ok();
        let Some(mut message) = any.and_then(|any| RouteConfiguration::decode(any.value).ok()) else {
            return resource;
        };
        configuration(patches, side, ports, &mut message);
        Arc::new(Resource::encode(message.name.as_str(), &message))
    };
    resources.into_iter().map(patched).collect()
}

/// Patches one configuration; it may be part of a listener.
pub(super) fn configuration(patches: &Patches, side: Side, ports: &GatewayPorts, message: &mut RouteConfiguration) {
    let name = message.name.clone();
    let applies = |patch: &&Patch| is_for_configuration(patch, side, ports, &name);
    for patch in patches.of("ROUTE_CONFIGURATION", side).filter(applies) {
        if patch.operation == Operation::Merge {
            merge::into(message, &patch.value);
        }
    }
    for patch in patches.of("VIRTUAL_HOST", side).filter(applies) {
        match patch.operation {
            Operation::Remove => message.virtual_hosts.retain(|host| !is_for_host(patch, host)),
            Operation::Merge => {
                for host in message.virtual_hosts.iter_mut().filter(|h| is_for_host(patch, h)) {
                    merge::into(host, &patch.value);
                }
            }
            Operation::Add => {
                if let Ok(host) = xds::json::from_json::<VirtualHost>(&patch.value) {
                    message.virtual_hosts.push(host);
                }
            }
            _ => {}
        }
    }
    for host in &mut message.virtual_hosts {
        for patch in patches.of("HTTP_ROUTE", side).filter(applies) {
            if is_for_host(patch, host) {
                routes(patch, &mut host.routes);
            }
        }
    }
}

fn routes(patch: &Patch, list: &mut Vec<Route>) {
    match patch.operation {
        Operation::Remove => list.retain(|route| !is_for_route(patch, route)),
        Operation::Merge => {
            for route in list.iter_mut().filter(|r| is_for_route(patch, r)) {
                merge::into(route, &patch.value);
            }
        }
        operation if adds(operation) => {
            if let Ok(new) = xds::json::from_json::<Route>(&patch.value) {
                let named = patch.at("/routeConfiguration/vhost/route").is_some();
                place(list, patch, &new, named, |route| is_for_route(patch, route));
            }
        }
        _ => {}
    }
}

fn is_for_configuration(patch: &Patch, side: Side, ports: &GatewayPorts, name: &str) -> bool {
    if patch.text("/routeConfiguration/name").is_some_and(|n| n != name) {
        return false;
    }
    let wanted = patch.number("/routeConfiguration/portNumber");
    if side != Side::Gateway {
        let port = match name.strip_prefix("inbound|") {
            Some(rest) => rest.split('|').next().and_then(|p| p.parse().ok()),
            None => name.parse::<u32>().ok(),
        };
        return wanted.is_none_or(|w| port == Some(w));
    }
    // `http.<port>`, or `https.<port>.<name of the port>.<gateway>.<namespace>`.
    let parts: Vec<&str> = name.split('.').collect();
    let port: Option<u32> = parts.get(1).and_then(|p| p.parse().ok());
    let (port_name, gateway) = match parts.as_slice() {
        ["https", _, port_name, gateway, namespace] => (*port_name, format!("{namespace}/{gateway}")),
        _ => ("", String::new()),
    };
    wanted.is_none_or(|w| port == Some(w) || ports.get(name).is_some_and(|p| p.contains(&w)))
        && patch
            .text("/routeConfiguration/portName")
            .is_none_or(|n| n == port_name)
        && patch.text("/routeConfiguration/gateway").is_none_or(|g| g == gateway)
}

fn is_for_host(patch: &Patch, host: &VirtualHost) -> bool {
    let domain = patch.text("/routeConfiguration/vhost/domainName");
    patch
        .text("/routeConfiguration/vhost/name")
        .is_none_or(|name| name == host.name)
        && domain.is_none_or(|domain| host.domains.iter().any(|d| d == domain))
}

fn is_for_route(patch: &Patch, route: &Route) -> bool {
    let action = match patch.text("/routeConfiguration/vhost/route/action") {
        Some("ROUTE") => matches!(route.action, Some(route::Action::Route(_))),
        Some("REDIRECT") => matches!(route.action, Some(route::Action::Redirect(_))),
        Some("DIRECT_RESPONSE") => matches!(route.action, Some(route::Action::DirectResponse(_))),
        _ => true,
    };
    let name = patch.text("/routeConfiguration/vhost/route/name");
    action && name.is_none_or(|name| name == route.name)
}
