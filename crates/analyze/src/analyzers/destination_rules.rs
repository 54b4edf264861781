//! TLS that talks to whoever answers.

use serde_json::Value;

use crate::message::{Message, NO_SERVER_VERIFICATION, NO_SERVER_VERIFICATION_PORT};
use crate::objects::{Objects, namespace};

use super::fields::full_name;

pub(super) fn verification(objects: &Objects, messages: &mut Vec<Message>) {
    for rule in objects.of_kind("DestinationRule") {
        let spec = &rule["spec"];
        let selected = spec.get("workloadSelector").is_some();
        let host = spec["host"].as_str().unwrap_or_default();
        let begin = |mode: &str| {
            format!(
                "DestinationRule {} in namespace {} has TLS mode set to {mode} but no caCertificates are set to validate \
                 server identity for host: {host}",
                full_name(rule),
                namespace(rule)
            )
        };
        if let Some(mode) = unverified(&spec["trafficPolicy"]["tls"], selected) {
            messages.push(Message::about(NO_SERVER_VERIFICATION, rule, begin(mode)));
        }
        let ports = spec
            .pointer("/trafficPolicy/portLevelSettings")
            .and_then(Value::as_array);
        for setting in ports.into_iter().flatten() {
            if let Some(mode) = unverified(&setting["tls"], selected) {
                let port = setting
                    .pointer("/port/number")
                    .map(Value::to_string)
                    .unwrap_or_default();
                let text = format!("{} at port {port}", begin(mode));
                messages.push(Message::about(NO_SERVER_VERIFICATION_PORT, rule, text));
            }
        }
    }
}

/// The mode, if it starts TLS and nothing says who may answer. A credential counts only where it is read: at the
/// workloads that a selector names.
fn unverified(tls: &Value, selected: bool) -> Option<&str> {
    let given = |key: &str| tls[key].as_str().is_some_and(|text| !text.is_empty());
    let mode = tls["mode"]
        .as_str()
        .filter(|mode| matches!(*mode, "SIMPLE" | "MUTUAL"))?;
    (!(given("caCertificates") || given("credentialName") && selected)).then_some(mode)
}
