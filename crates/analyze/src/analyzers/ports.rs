//! Ports whose protocol is not told, or cannot be told apart.

use api::names::label;
use serde_json::Value;

use super::is_system;
use crate::message::{ADDRESSES_REQUIRED, EXTERNAL_NAME_PORT, Message, PORT_NAME_CONVENTION};
use crate::objects::{Objects, labels, namespace};

/// Protocols that a port's name may begin with.
const PROTOCOLS: [&str; 13] = [
    "grpc",
    "grpc-web",
    "http",
    "http2",
    "https",
    "mongo",
    "mysql",
    "redis",
    "tcp",
    "tls",
    "udp",
    "hbone",
    "doublehbone",
];

pub(super) fn names(objects: &Objects, messages: &mut Vec<Message>) {
    for service in objects
        .of_kind("Service")
        .filter(|service| !is_system(namespace(service)))
    {
        // Services of gateways are the controller's work.
        if labels(service).contains_key(label::GATEWAY_MANAGED) {
            continue;
        }
        let external = service.pointer("/spec/type").and_then(Value::as_str) == Some("ExternalName");
        for port in service
            .pointer("/spec/ports")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |key: &str| port[key].as_str().unwrap_or_default();
            let told = if text("appProtocol").is_empty() {
                text("name")
            } else {
                text("appProtocol")
            };
            let protocol = protocol(told);
            if external {
                if matches!(protocol, None | Some("tcp")) {
                    messages.push(Message::about(
                        EXTERNAL_NAME_PORT,
                        service,
                        "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched \
                         traffic for ports serving TCP protocol from being forwarded correctly",
                    ));
                }
            } else if protocol.is_none() && text("protocol") != "UDP" {
                let shown = |key: &str| {
                    port.get(key)
                        .map(|value| value.to_string().replace('"', ""))
                        .unwrap_or_default()
                };
                messages.push(Message::about(
                    PORT_NAME_CONVENTION,
                    service,
                    format!(
                        "Port name {} (port: {}, targetPort: {}) doesn't follow the naming convention of Istio port.",
                        text("name"),
                        shown("port"),
                        shown("targetPort")
                    ),
                ));
            }
        }
    }
}

/// The protocol of `http`, `http-web` or `kubernetes.io/h2c`.
fn protocol(name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    match lower.as_str() {
        "kubernetes.io/h2c" => return Some("http2"),
        "kubernetes.io/ws" | "kubernetes.io/wss" => return Some("http"),
        _ => {}
    }
    // `grpc-web` is a protocol, and so is what comes before the first dash of any other name.
    let begin = lower.split('-').next().unwrap_or_default();
    let grpc_web = lower == "grpc-web" || lower.starts_with("grpc-web-");
    let wanted = if grpc_web { "grpc-web" } else { begin };
    PROTOCOLS.into_iter().find(|protocol| *protocol == wanted)
}

pub(super) fn addresses(objects: &Objects, messages: &mut Vec<Message>) {
    let metadata = &objects.mesh_config()["defaultConfig"]["proxyMetadata"];
    let on = |key: &str| metadata[key].as_str() == Some("true");
    // With names resolved in the pod, addresses are made up there.
    if on("ISTIO_META_DNS_CAPTURE") {
        return;
    }
    for entry in objects.of_kind("ServiceEntry") {
        let has = |pointer: &str| {
            entry
                .pointer(pointer)
                .and_then(Value::as_array)
                .is_some_and(|list| !list.is_empty())
        };
        if has("/spec/addresses") || has("/status/addresses") {
            continue;
        }
        for port in entry
            .pointer("/spec/ports")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let protocol = port["protocol"].as_str().unwrap_or_default();
            if protocol.is_empty() || protocol.eq_ignore_ascii_case("tcp") {
                let text = "ServiceEntry addresses are required for this protocol.";
                messages.push(Message::about(ADDRESSES_REQUIRED, entry, text));
            }
        }
    }
}
