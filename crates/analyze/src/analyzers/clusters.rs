//! Services that several clusters have, which should be the same: clients see them as one.

use std::collections::{BTreeMap, BTreeSet};

use api::names::CLUSTER_ID;
use serde_json::Value;

use super::fields::text;
use crate::message::{INCONSISTENT_SERVICE, Message};
use crate::objects::{Objects, name, namespace};

pub(super) fn services(objects: &Objects, messages: &mut Vec<Message>) {
    let mut found: BTreeMap<(&str, &str), Vec<(&str, &Value)>> = BTreeMap::new();
    let own = objects.of_kind("Service").map(|service| (CLUSTER_ID, service));
    for (cluster, service) in own.chain(objects.remote_services()) {
        let key = (namespace(service), name(service));
        found.entry(key).or_default().push((cluster, service));
    }
    for ((namespace, name), services) in found {
        let [(first, service), others @ ..] = services.as_slice() else {
            continue;
        };
        let mut clusters: BTreeSet<&str> = BTreeSet::new();
        let mut reasons: BTreeSet<&str> = BTreeSet::new();
        for (cluster, other) in others {
            let differences = differences(service, other);
            if !differences.is_empty() {
                clusters.extend([*first, *cluster]);
                reasons.extend(differences);
            }
        }
        if !reasons.is_empty() {
            let clusters: Vec<String> = clusters.into_iter().map(|cluster| format!("{cluster:?}")).collect();
            messages.push(Message::about(
                INCONSISTENT_SERVICE,
                service,
                format!(
                    "The service {name} in namespace {namespace:?} is inconsistent across clusters [{}], which can lead to \
                     undefined behaviors. The inconsistent behaviors are: {}.",
                    clusters.join(" "),
                    reasons.into_iter().collect::<Vec<_>>().join("; ")
                ),
            ));
        }
    }
}

fn differences(a: &Value, b: &Value) -> Vec<&'static str> {
    let is_headless = |service: &Value| text(service, "/spec/clusterIP") == "None";
    let kind = |service: &Value| match text(service, "/spec/type") {
        "" => "ClusterIP".to_owned(),
        kind => kind.to_owned(),
    };
    let mut found = Vec::new();
    if is_headless(a) != is_headless(b) {
        found.push("service has mixed mode like headless and clusterIP");
    }
    if kind(a) != kind(b) {
        found.push("service type is inconsistent");
    }
    if ports(a) != ports(b) {
        found.push("service ports are inconsistent");
    }
    found
}

/// Ports by name. Those of nodes are each cluster's own.
fn ports(service: &Value) -> Vec<Value> {
    let mut ports: Vec<Value> = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in &mut ports {
        if let Some(fields) = port.as_object_mut() {
            fields.shift_remove("nodePort");
            fields.sort_keys();
        }
    }
    ports.sort_by_key(|port| text(port, "/name").to_owned());
    ports
}
