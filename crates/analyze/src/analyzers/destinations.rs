//! Where VirtualServices and DestinationRules lead.

use std::collections::{BTreeMap, BTreeSet};

use api::names::label;
use revision::selector::Labels;
use serde_json::Value;

use super::fields::{full_name, list, map, selects, text, texts};
use super::hosts::{self, Destination, Service, Services};
use crate::message::{
    INGRESS_ROUTE_RULES_NOT_AFFECTED, Message, PORT_SELECTOR_REQUIRED, REFERENCED_RESOURCE_NOT_FOUND,
    SUBSET_SELECTS_NO_POD, UNKNOWN_DESTINATION_RULE_HOST,
};
use crate::objects::{Objects, labels, namespace};

pub(super) fn services(objects: &Objects, messages: &mut Vec<Message>) {
    let services = Services::of(objects);
    let subsets = routes_with_subsets(objects);
    for object in objects.of_kind("VirtualService") {
        let export_to = texts(object, "/spec/exportTo");
        for destination in hosts::destinations(object) {
            match services.find(destination.host, namespace(object), &export_to) {
                Some(service) => check_port(object, &destination, service, messages),
                None => {
                    let what = if destination.mirrors { "mirror host" } else { "host" };
                    let text = format!("Referenced {what} not found: {:?}", destination.host);
                    messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, object, text));
                }
            }
        }
        without_subset(object, &subsets, messages);
    }
}

fn check_port(object: &Value, destination: &Destination<'_>, service: &Service, messages: &mut Vec<Message>) {
    match destination.port {
        None if service.ports.len() > 1 => {
            let ports: Vec<String> = service.ports.iter().map(u64::to_string).collect();
            messages.push(Message::about(
                PORT_SELECTOR_REQUIRED,
                object,
                format!(
                    "This VirtualService routes to a service {:?} that exposes multiple ports [{}]. Specifying a port in the \
                     destination is required to disambiguate.",
                    destination.host,
                    ports.join(" ")
                ),
            ));
        }
        Some(port) if !service.ports.contains(&port) => {
            let target = format!("{}:{port}", destination.host);
            let text = format!("Referenced host:port not found: {target:?}");
            messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, object, text));
        }
        _ => {}
    }
}

/// VirtualServices that choose a subset of their own host, by name, with the hosts.
fn routes_with_subsets(objects: &Objects) -> BTreeMap<String, BTreeSet<&str>> {
    let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for object in objects.of_kind("VirtualService") {
        let own = texts(object, "/spec/hosts");
        for route in list(object, "/spec/http").flat_map(|rule| list(rule, "/route")) {
            let host = text(route, "/destination/host");
            if !text(route, "/destination/subset").is_empty() && own.contains(&host) {
                found.entry(full_name(object)).or_default().insert(host);
            }
        }
    }
    found
}

/// Requests through a gateway do not pass the VirtualService that chooses a subset inside the mesh.
fn without_subset(object: &Value, subsets: &BTreeMap<String, BTreeSet<&str>>, messages: &mut Vec<Message>) {
    if texts(object, "/spec/gateways").is_empty() {
        return;
    }
    let plain: BTreeSet<&str> = list(object, "/spec/http")
        .flat_map(|rule| list(rule, "/route"))
        .filter(|route| text(route, "/destination/subset").is_empty())
        .map(|route| text(route, "/destination/host"))
        .collect();
    for (other, hosts) in subsets {
        if hosts.iter().any(|host| plain.contains(host)) {
            let text = format!(
                "Subset in virtual service {other} has no effect on ingress gateway {} requests",
                full_name(object)
            );
            messages.push(Message::about(INGRESS_ROUTE_RULES_NOT_AFFECTED, object, text));
        }
    }
}

pub(super) fn subsets(objects: &Objects, messages: &mut Vec<Message>) {
    let mut known = BTreeSet::new();
    for rule in objects.of_kind("DestinationRule") {
        let host = hosts::service(text(rule, "/spec/host"), namespace(rule));
        known.extend(list(rule, "/spec/subsets").map(|subset| (host, text(subset, "/name"))));
    }
    for object in objects.of_kind("VirtualService") {
        for destination in hosts::destinations(object).iter().filter(|d| !d.subset.is_empty()) {
            let host = hosts::service(destination.host, namespace(object));
            if !known.contains(&(host, destination.subset)) {
                let what = if destination.mirrors { "mirror" } else { "host" };
                let target = format!("{}+{}", destination.host, destination.subset);
                let text = format!("Referenced {what}+subset in destinationrule not found: {target:?}");
                messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, object, text));
            }
        }
    }
}

pub(super) fn selected(objects: &Objects, messages: &mut Vec<Message>) {
    let services = Services::of(objects);
    let pods: Vec<Labels> = objects
        .of_kind("Pod")
        .map(|pod| labels_with_place(objects, pod))
        .collect();
    for rule in objects.of_kind("DestinationRule") {
        let host = text(rule, "/spec/host");
        let Some(service) = services.find(host, namespace(rule), &texts(rule, "/spec/exportTo")) else {
            let text =
                format!("The host {host} defined in the DestinationRule does not match any services in the mesh.");
            messages.push(Message::about(UNKNOWN_DESTINATION_RULE_HOST, rule, text));
            continue;
        };
        // Of two subsets of one name the later counts.
        let subsets: BTreeMap<&str, Labels> = list(rule, "/spec/subsets")
            .map(|subset| {
                let mut selector = service.workloads.clone();
                selector.extend(map(&subset["labels"]));
                (text(subset, "/name"), selector)
            })
            .collect();
        for (subset, selector) in subsets {
            if !pods.iter().any(|pod| selects(&selector, pod)) {
                messages.push(Message::about(
                    SUBSET_SELECTS_NO_POD,
                    rule,
                    format!(
                        "The Subset {subset} defined in the DestinationRule does not select any pods. Which may lead to 503 \
                         UH (NoHealthyUpstream)."
                    ),
                ));
            }
        }
    }
}

/// A pod's labels, and where its node is, which subsets may select by.
fn labels_with_place(objects: &Objects, pod: &Value) -> Labels {
    let mut all = labels(pod);
    let node = text(pod, "/spec/nodeName");
    if !node.is_empty() {
        all.insert("kubernetes.io/hostname".to_owned(), node.to_owned());
    }
    let Some(node) = objects.get("Node", "", node) else {
        return all;
    };
    let place = labels(node);
    // A zone without a region is nowhere.
    for key in [label::REGION, label::ZONE, label::SUBZONE] {
        match place.get(key).filter(|value| !value.is_empty()) {
            Some(value) => drop(all.insert(key.to_owned(), value.clone())),
            None => break,
        }
    }
    all
}
