//! Namespaces that say nothing or too much of injection, and pods that lack a proxy.

use api::names::{PROXY_CONTAINER, label};
use serde_json::Value;

use super::is_system;
use crate::message::{
    INJECTED_BY_DEFAULT, Message, NAMESPACE_MULTIPLE_INJECTION_LABELS, NAMESPACE_NOT_INJECTED, POD_MISSING_PROXY,
};
use crate::objects::{Objects, labels, name, namespace};

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    let by_default = injects_by_default(objects);
    for (name, object) in objects.namespaces().filter(|(name, _)| !is_system(name)) {
        let labels = labels(object);
        let given: Vec<&str> = [label::NAMESPACE_INJECTION, label::REVISION, label::DATAPLANE_MODE]
            .into_iter()
            .filter(|key| {
                labels
                    .get(*key)
                    .is_some_and(|value| !matches!(value.as_str(), "" | "none" | label::INJECTION_DISABLED))
            })
            .collect();
        let enabled = labels
            .get(label::NAMESPACE_INJECTION)
            .is_some_and(|value| value == label::INJECTION_ENABLED);
        match given.as_slice() {
            // Said no, in words.
            [] if labels.contains_key(label::NAMESPACE_INJECTION) => {}
            [] if by_default => messages.push(Message::about(
                INJECTED_BY_DEFAULT,
                object,
                "is enabled for Istio injection, as Istio is installed with enableNamespacesByDefault as true.",
            )),
            [] => messages.push(Message::about(
                NAMESPACE_NOT_INJECTED,
                object,
                format!(
                    "The namespace is not enabled for Istio injection. Run 'kubectl label namespace {name} \
                     istio-injection=enabled' to enable it, or 'kubectl label namespace {name} \
                     istio-injection=disabled' to explicitly mark it as not needing injection."
                ),
            )),
            [_] => {}
            several => messages.push(Message::about(
                NAMESPACE_MULTIPLE_INJECTION_LABELS,
                object,
                format!(
                    "The namespace has more than one type of injection labels [{}], which may lead to undefined \
                     behavior. Make sure only one injection label exists.",
                    several.join(" ")
                ),
            )),
        }
        if enabled || labels.contains_key(label::REVISION) {
            pods(objects, name, messages);
        }
    }
}

fn pods(objects: &Objects, of: &str, messages: &mut Vec<Message>) {
    for pod in objects.of_kind("Pod").filter(|pod| namespace(pod) == of) {
        let refused = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str) == Some("false");
        let says_no = refused("/metadata/labels/sidecar.istio.io~1inject")
            || refused("/metadata/annotations/sidecar.istio.io~1inject")
            || pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true));
        let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
        if says_no || matches!(phase, "Succeeded" | "Failed") || has_proxy(pod) {
            continue;
        }
        messages.push(Message::about(
            POD_MISSING_PROXY,
            pod,
            format!(
                "The pod {} is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload.",
                name(pod)
            ),
        ));
    }
}

/// Does the control plane inject namespaces that say nothing?
fn injects_by_default(objects: &Objects) -> bool {
    let configurations = objects
        .of_kind("ConfigMap")
        .filter(|map| name(map).starts_with("istio-sidecar-injector"));
    configurations
        .filter_map(|map| map.pointer("/data/values")?.as_str())
        .any(|text| {
            let values: Value = serde_json::from_str(text).unwrap_or_default();
            values.pointer("/sidecarInjectorWebhook/enableNamespacesByDefault") == Some(&Value::Bool(true))
        })
}

/// Has the pod a proxy, as a container or a native sidecar?
pub(super) fn has_proxy(pod: &Value) -> bool {
    proxy(pod).is_some()
}

/// The proxy's container.
pub(super) fn proxy(pod: &Value) -> Option<&Value> {
    ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .find_map(|pointer| {
            pod.pointer(pointer)?
                .as_array()?
                .iter()
                .find(|container| container["name"] == PROXY_CONTAINER)
        })
}
