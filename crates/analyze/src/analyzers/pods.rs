//! Applications that run as the proxy's user: redirection leaves their traffic alone.

use api::names::{PROXY_CONTAINER, PROXY_UID};
use serde_json::Value;

use crate::message::{INVALID_APPLICATION_UID, Message};
use crate::objects::Objects;

pub(super) fn user_id(objects: &Objects, messages: &mut Vec<Message>) {
    for pod in objects.of_kind("Pod") {
        let user = |value: &Value| value.pointer("/securityContext/runAsUser").and_then(Value::as_i64);
        let pod_user = user(&pod["spec"]);
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        let reserved = containers
            .into_iter()
            .flatten()
            .filter(|container| container["name"] != PROXY_CONTAINER)
            .any(|container| user(container).or(pod_user) == Some(PROXY_UID));
        if reserved {
            messages.push(Message::about(
                INVALID_APPLICATION_UID,
                pod,
                "User ID (UID) 1337 is reserved for the sidecar proxy.",
            ));
        }
    }
}
