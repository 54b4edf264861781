//! Deployments behind several Services that contradict each other.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{full_name, list, map, selects};
use super::membership;
use crate::message::{DEPLOYMENT_CONFLICTING_PORTS, DEPLOYMENT_SEVERAL_PROTOCOLS, Message};
use crate::objects::{Objects, labels, name, namespace};

/// Label of what a gateway controller made, and its value for waypoints.
const MANAGED: (&str, &str) = ("gateway.istio.io/managed", "istio.io-mesh-controller");

pub(super) fn services(objects: &Objects, messages: &mut Vec<Message>) {
    for deployment in objects.of_kind("Deployment") {
        let is_waypoint = labels(deployment)
            .get(MANAGED.0)
            .is_some_and(|value| value == MANAGED.1);
        if is_waypoint || !membership::deployment(objects, deployment) {
            continue;
        }
        let pods = map(&deployment["spec"]["template"]["metadata"]["labels"]);
        let services: Vec<&Value> = objects
            .of_kind("Service")
            .filter(|service| {
                let selector = map(&service["spec"]["selector"]);
                namespace(service) == namespace(deployment) && !selector.is_empty() && selects(&selector, &pods)
            })
            .collect();
        protocols(deployment, &services, messages);
        target_ports(deployment, &services, messages);
    }
}

fn ports<'a>(services: &[&'a Value]) -> impl Iterator<Item = (String, u64, &'a Value)> {
    services
        .iter()
        .flat_map(|service| list(service, "/spec/ports").map(|port| (*service, port)))
        .filter_map(|(service, port)| Some((full_name(service), port["port"].as_u64()?, port)))
}

fn protocols(deployment: &Value, services: &[&Value], messages: &mut Vec<Message>) {
    let mut by_port: BTreeMap<u64, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for (service, number, port) in ports(services) {
        let protocol = port["protocol"].as_str().filter(|p| !p.is_empty()).unwrap_or("TCP");
        by_port
            .entry(number)
            .or_default()
            .entry(protocol)
            .or_default()
            .push(service);
    }
    for (port, protocols) in by_port.into_iter().filter(|(_, protocols)| protocols.len() > 1) {
        let mut services: Vec<String> = protocols.into_values().flatten().collect();
        services.sort();
        messages.push(Message::about(
            DEPLOYMENT_SEVERAL_PROTOCOLS,
            deployment,
            format!(
                "This deployment {} is associated with multiple services using port {port} but different protocols: [{}]",
                name(deployment),
                services.join(" ")
            ),
        ));
    }
}

fn target_ports(deployment: &Value, services: &[&Value], messages: &mut Vec<Message>) {
    let mut by_target: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    for (service, number, port) in ports(services) {
        let target = match &port["targetPort"] {
            Value::String(name) if !name.is_empty() && name != "0" => name.clone(),
            Value::Number(target) if target.as_u64() != Some(0) => target.to_string(),
            _ => number.to_string(),
        };
        by_target.entry(target).or_default().insert(number, service);
    }
    for (target, by_port) in by_target.into_iter().filter(|(_, by_port)| by_port.len() > 1) {
        let ports: Vec<String> = by_port.keys().map(u64::to_string).collect();
        let mut services: Vec<String> = by_port.into_values().collect();
        services.sort();
        messages.push(Message::about(
            DEPLOYMENT_CONFLICTING_PORTS,
            deployment,
            format!(
                "This deployment {} is associated with multiple services [{}] using targetPort {target:?} but different \
                 ports: [{}].",
                name(deployment),
                services.join(" "),
                ports.join(" ")
            ),
        ));
    }
}
