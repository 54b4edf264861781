//! Gateways and the proxies that serve them.

use std::collections::{BTreeMap, BTreeSet};

use revision::selector::Labels;
use serde_json::Value;

use super::fields::{full_name, list, map, selects, shown, text, texts};
use crate::message::{CONFLICTING_GATEWAYS, GATEWAY_PORT_NOT_ON_SERVICE, Message, REFERENCED_RESOURCE_NOT_FOUND};
use crate::objects::{Objects, labels, namespace};

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

/// A port of a gateway: its proxies, and who may be asked for there. Hosts and binds that are not the same go side by side.
struct Claim<'a> {
    gateway: &'a Value,
    selector: Labels,
    port: u64,
    bind: &'a str,
    hosts: Vec<&'a str>,
}

pub(super) fn conflicts(objects: &Objects, messages: &mut Vec<Message>) {
    let claims: Vec<Claim<'_>> = objects.of_kind("Gateway").flat_map(claims).collect();
    let mut by_host: BTreeMap<(u64, &str, &str), Vec<&Claim<'_>>> = BTreeMap::new();
    for claim in &claims {
        for host in &claim.hosts {
            by_host.entry((claim.port, claim.bind, host)).or_default().push(claim);
        }
    }
    let pods: Vec<Labels> = objects.of_kind("Pod").map(labels).collect();
    for claim in &claims {
        let same = claim
            .hosts
            .iter()
            .filter_map(|host| by_host.get(&(claim.port, claim.bind, *host)));
        let rivals = same.flatten().filter(|other| {
            !std::ptr::eq(other.gateway, claim.gateway) && share_proxies(&claim.selector, &other.selector, &pods)
        });
        let others: BTreeSet<String> = rivals.map(|other| full_name(other.gateway)).collect();
        if !others.is_empty() {
            messages.push(Message::about(
                CONFLICTING_GATEWAYS,
                claim.gateway,
                format!(
                    "Conflict with gateways {} (workload selector {}, port {}, hosts {}).",
                    others.into_iter().collect::<Vec<_>>().join(","),
                    shown(&claim.selector),
                    claim.port,
                    claim.hosts.join(",")
                ),
            ));
        }
    }
}

fn claims(gateway: &Value) -> impl Iterator<Item = Claim<'_>> {
    list(gateway, "/spec/servers").filter_map(move |server| {
        Some(Claim {
            gateway,
            selector: map(&gateway["spec"]["selector"]),
            port: server.pointer("/port/number")?.as_u64()?,
            bind: text(server, "/bind"),
            hosts: texts(server, "/hosts"),
        })
    })
}

/// Whether two selectors mean the same proxies: they are equal, or one says more than the other and a pod fits both.
fn share_proxies(a: &Labels, b: &Labels, pods: &[Labels]) -> bool {
    a == b || ((selects(a, b) || selects(b, a)) && pods.iter().any(|pod| selects(a, pod) && selects(b, pod)))
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
