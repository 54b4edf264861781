//! Kinds and fields that go, or are gone.

use super::fields::{list, text};
use crate::message::{DEPRECATED, Message};
use crate::objects::Objects;

/// Kinds of `rbac.istio.io` that no control plane reads any more.
const REMOVED: [&str; 4] = ["ClusterRbacConfig", "RbacConfig", "ServiceRole", "ServiceRoleBinding"];

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    let mut report =
        |object, text: String| messages.push(Message::about(DEPRECATED, object, format!("Deprecated: {text}")));
    for service in objects.of_kind("VirtualService") {
        for route in list(service, "/spec/http") {
            if route
                .pointer("/fault/delay/percent")
                .and_then(serde_json::Value::as_f64)
                .is_some_and(|percent| percent > 0.0)
            {
                report(
                    service,
                    "HTTPRoute.fault.delay.percent is deprecated; use HTTPRoute.fault.delay.percentage".to_owned(),
                );
            }
        }
    }
    for sidecar in objects.of_kind("Sidecar") {
        if sidecar.pointer("/spec/outboundTrafficPolicy/egressProxy").is_some() {
            report(sidecar, "OutboundTrafficPolicy.EgressProxy ignored".to_owned());
        }
    }
    for definition in objects.of_kind("CustomResourceDefinition") {
        let (group, kind) = (text(definition, "/spec/group"), text(definition, "/spec/names/kind"));
        if group == "rbac.istio.io" && REMOVED.contains(&kind) {
            report(definition, format!("Custom resource type {group} {kind} is removed"));
        }
    }
}
