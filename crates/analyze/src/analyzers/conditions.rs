//! Conditions in which controllers say that something is wrong.

use serde_json::Value;

use super::fields::{list, text};
use crate::message::{Message, NEGATIVE_CONDITION};
use crate::objects::{KUBERNETES_GATEWAY, Objects};

/// Conditions that should not be false, by kind.
const EXPECTED: [(&str, &[&str]); 7] = [
    ("Service", &["istio.io/WaypointBound"]),
    ("ServiceEntry", &["istio.io/WaypointBound"]),
    ("WorkloadEntry", &["istio.io/WaypointBound"]),
    ("AuthorizationPolicy", &["ZtunnelAccepted", "WaypointAccepted"]),
    (KUBERNETES_GATEWAY, &["Accepted", "Programmed", "ResolvedRefs"]),
    ("HTTPRoute", &["Accepted", "Programmed", "ResolvedRefs"]),
    ("GRPCRoute", &["Accepted", "Programmed", "ResolvedRefs"]),
];

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    for (kind, expected) in EXPECTED {
        for object in objects.of_kind(kind) {
            let own = list(object, "/status/conditions");
            let of_parents = list(object, "/status/parents").flat_map(|parent| list(parent, "/conditions"));
            for condition in own.chain(of_parents) {
                let field = |name: &str| text(condition, name);
                let negative = expected.contains(&field("/type")) && field("/status") == "False";
                // True, and yet a part of the policy is not in force.
                let partly = kind == "AuthorizationPolicy"
                    && field("/type") == "WaypointAccepted"
                    && field("/reason") == "PartiallyInvalid";
                if negative || partly {
                    messages.push(about(object, condition));
                }
            }
        }
    }
}

fn about(object: &Value, condition: &Value) -> Message {
    let field = |name: &str| text(condition, name);
    Message::about(
        NEGATIVE_CONDITION,
        object,
        format!(
            "A condition with a negative status is present: type={}, reason={}, message={}.",
            field("/type"),
            field("/reason"),
            field("/message")
        ),
    )
}
