//! Applications that run as the proxy's user: redirection leaves their traffic alone.

use api::names::{PROXY_CONTAINER, PROXY_UID};
use serde_json::Value;

use super::fields::list;
use super::membership;
use crate::message::{INVALID_APPLICATION_UID, Message};
use crate::objects::Objects;

pub(super) fn user_id(objects: &Objects, messages: &mut Vec<Message>) {
    for (kind, pod) in [("Pod", ""), ("Deployment", "/spec/template")] {
        let workloads = objects
            .of_kind(kind)
            .filter(|object| !membership::is_control_plane(object));
        for object in workloads {
            if object.pointer(&format!("{pod}/spec")).is_some_and(is_reserved) {
                messages.push(Message::about(
                    INVALID_APPLICATION_UID,
                    object,
                    "User ID (UID) 1337 is reserved for the sidecar proxy.",
                ));
            }
        }
    }
}

/// Does an application of a pod run as the proxy's user? What its container says goes before what the pod says.
fn is_reserved(spec: &Value) -> bool {
    let user = |value: &Value| value.pointer("/securityContext/runAsUser").and_then(Value::as_i64);
    let of_pod = user(spec);
    list(spec, "/containers")
        .filter(|container| container["name"] != PROXY_CONTAINER)
        .any(|container| user(container).or(of_pod) == Some(PROXY_UID))
}
