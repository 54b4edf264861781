//! Gateways and the proxies that serve them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fields::{list, map, selects, shown, texts};
use crate::message::{CONFLICTING_GATEWAYS, GATEWAY_PORT_NOT_ON_SERVICE, Message, REFERENCED_RESOURCE_NOT_FOUND};
use crate::objects::{Objects, labels, name, namespace};

pub(super) fn ports(objects: &Objects, messages: &mut Vec<Message>) {
    for gateway in objects.of_kind("Gateway") {
        let selector = map(&gateway["spec"]["selector"]);
        let pods: Vec<&Value> = objects
            .of_kind("Pod")
            .filter(|pod| selects(&selector, &labels(pod)))
            .collect();
        if pods.is_empty() {
            let text = format!("Referenced selector not found: {:?}", shown(&selector));
            messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, gateway, text));
            continue;
        }
        let offered: BTreeSet<u64> = pods.iter().flat_map(|pod| offered(objects, pod)).collect();
        for port in list(gateway, "/spec/servers").filter_map(|server| server.pointer("/port/number")?.as_u64()) {
            if !offered.contains(&port) {
                messages.push(Message::about(
                    GATEWAY_PORT_NOT_ON_SERVICE,
                    gateway,
                    format!(
                        "The gateway is listening on a target port (port {port}) that is not defined in the Service \
                         associated with its workload instances (Pod selector {}). If you need to access the gateway \
                         port through the gateway Service, it will not be available.",
                        shown(&selector)
                    ),
                ));
            }
        }
    }
}

/// The ports of a pod that Services lead to, by either number: which one a gateway names depends on what fills in its
/// listeners.
fn offered(objects: &Objects, pod: &Value) -> Vec<u64> {
    let pod_labels = labels(pod);
    let services = objects.of_kind("Service").filter(|service| {
        let selector = map(&service["spec"]["selector"]);
        namespace(service) == namespace(pod) && !selector.is_empty() && selects(&selector, &pod_labels)
    });
    services
        .flat_map(|service| list(service, "/spec/ports"))
        .filter(|port| matches!(port["protocol"].as_str(), None | Some("" | "TCP")))
        .flat_map(|port| [port["targetPort"].as_u64(), port["port"].as_u64()])
        .flatten()
        .collect()
}

pub(super) fn conflicts(objects: &Objects, messages: &mut Vec<Message>) {
    type Place = (String, u64, String);
    let mut claims: BTreeMap<Place, Vec<(&Value, Vec<&str>)>> = BTreeMap::new();
    for gateway in objects.of_kind("Gateway") {
        let selector = shown(&map(&gateway["spec"]["selector"]));
        for server in list(gateway, "/spec/servers") {
            let Some(port) = server.pointer("/port/number").and_then(Value::as_u64) else {
                continue;
            };
            let bind = server["bind"].as_str().unwrap_or_default().to_owned();
            claims
                .entry((selector.clone(), port, bind))
                .or_default()
                .push((gateway, texts(server, "/hosts")));
        }
    }
    for ((selector, port, _), claims) in &claims {
        for (gateway, hosts) in claims {
            let others: BTreeSet<&str> = claims
                .iter()
                .filter(|(other, _)| !std::ptr::eq(*other, *gateway))
                .filter(|(_, theirs)| {
                    hosts
                        .iter()
                        .any(|own| theirs.iter().any(|other| overlap(host(own), host(other))))
                })
                .map(|(other, _)| name(other))
                .collect();
            if !others.is_empty() {
                let others = others.into_iter().collect::<Vec<_>>().join(",");
                messages.push(Message::about(
                    CONFLICTING_GATEWAYS,
                    gateway,
                    format!(
                        "Conflict with gateways {others} (workload selector {selector}, port {port}, hosts [{}]).",
                        hosts.join(" ")
                    ),
                ));
            }
        }
    }
}

/// A host of a gateway without the namespace that may stand before a slash.
fn host(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or_default()
}

/// Do two hosts, each perhaps a pattern, have a name in common?
pub(super) fn overlap(a: &str, b: &str) -> bool {
    includes(a, b) || includes(b, a)
}

/// Does `a` stand for all that `b` stands for?
fn includes(a: &str, b: &str) -> bool {
    match a.strip_prefix('*') {
        Some(suffix) => b.strip_prefix('*').unwrap_or(b).ends_with(suffix),
        None => a == b,
    }
}
