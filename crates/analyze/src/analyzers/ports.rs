//! Ports whose protocol is not told, or cannot be told apart.

use api::names::{SYSTEM_NAMESPACES, label};
use serde_json::Value;

use super::fields::{list, text};
use super::membership;
use crate::message::{ADDRESSES_REQUIRED, EXTERNAL_NAME_PORT, Message, PORT_NAME_CONVENTION};
use crate::objects::{Objects, labels, namespace};

/// Protocols that a port's name may begin with.
const PROTOCOLS: [&str; 12] = [
    "grpc",
    "grpc-web",
    "http",
    "http2",
    "http_proxy",
    "https",
    "mongo",
    "mysql",
    "redis",
    "tcp",
    "tls",
    "udp",
];

/// Ports that are taken for TCP whatever their name is: a server that speaks first would wait for ever to be recognised.
const SERVER_SPEAKS_FIRST: [u64; 4] = [25, 53, 3306, 27017];

pub(super) fn names(objects: &Objects, messages: &mut Vec<Message>) {
    for service in objects.of_kind("Service") {
        let is_own = SYSTEM_NAMESPACES.contains(&namespace(service)) || membership::is_control_plane(service);
        // Services of gateways are the controller's work.
        if is_own || labels(service).contains_key(label::GATEWAY_MANAGED) {
            continue;
        }
        let external = text(service, "/spec/type") == "ExternalName";
        for port in list(service, "/spec/ports") {
            let name = text(port, "/name");
            if has_protocol(port) && !(external && name == "tcp") {
                continue;
            }
            if external {
                messages.push(Message::about(
                    EXTERNAL_NAME_PORT,
                    service,
                    "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched traffic \
                     for ports serving TCP protocol from being forwarded correctly",
                ));
                continue;
            }
            let shown = |key: &str| match port.get(key) {
                Some(value) => value.to_string().replace('"', ""),
                None => "0".to_owned(),
            };
            messages.push(Message::about(
                PORT_NAME_CONVENTION,
                service,
                format!(
                    "Port name {name} (port: {}, targetPort: {}) doesn't follow the naming convention of Istio port.",
                    shown("port"),
                    shown("targetPort")
                ),
            ));
        }
    }
}

/// Is it told what a port speaks?
fn has_protocol(port: &Value) -> bool {
    let told = match text(port, "/appProtocol") {
        "" => text(port, "/name"),
        own => own,
    };
    let speaks_first = || {
        let number = port["port"].as_u64();
        number.is_some_and(|number| SERVER_SPEAKS_FIRST.contains(&number))
    };
    text(port, "/protocol") == "UDP" || protocol(told).is_some() || speaks_first()
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
    let wanted = if lower.starts_with("grpc-web") {
        "grpc-web"
    } else {
        begin
    };
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
