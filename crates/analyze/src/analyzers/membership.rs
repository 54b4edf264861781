//! Which workloads are in the mesh.

use api::names::{PROXY_CONTAINER, label};
use revision::selector::Labels;
use serde_json::Value;

use super::fields::list;
use crate::objects::{Objects, labels, namespace};

/// Annotation of a pod whose traffic is redirected to its node's proxy.
const AMBIENT: &str = "ambient.istio.io/redirection";

/// Whether a pod has a sidecar, or would get one.
pub(super) fn pod(objects: &Objects, pod: &Value) -> bool {
    has_proxy(list(pod, "/spec/containers").chain(list(pod, "/spec/initContainers")))
        || would_be_injected(
            objects,
            namespace(pod),
            &labels(pod),
            &super::fields::map(&pod["metadata"]["annotations"]),
        )
}

/// Whether pods of a deployment have a sidecar, or would get one.
pub(super) fn deployment(objects: &Objects, deployment: &Value) -> bool {
    let template = &deployment["spec"]["template"];
    has_proxy(list(template, "/spec/containers"))
        || would_be_injected(
            objects,
            namespace(deployment),
            &labels(template),
            &super::fields::map(&template["metadata"]["annotations"]),
        )
}

fn has_proxy<'a>(mut containers: impl Iterator<Item = &'a Value>) -> bool {
    containers.any(|c| c["name"] == PROXY_CONTAINER && c["image"].as_str().is_some_and(|image| !image.is_empty()))
}

fn would_be_injected(objects: &Objects, of: &str, labels: &Labels, annotations: &Labels) -> bool {
    let says = |map: &Labels| map.get(label::SIDECAR_INJECT).map(|value| value == "true");
    says(labels).or_else(|| says(annotations)).unwrap_or_else(|| {
        objects.get("Namespace", "", of).is_some_and(|namespace| {
            let labels = crate::objects::labels(namespace);
            labels.get(label::NAMESPACE_INJECTION).map(String::as_str) == Some(label::INJECTION_ENABLED)
                || (!labels.contains_key(label::NAMESPACE_INJECTION) && labels.contains_key(label::REVISION))
        })
    })
}

/// Whether an object is a part of the mesh itself, a control plane or a gateway, and not of what is in it.
pub(super) fn is_control_plane(object: &Value) -> bool {
    let labels = labels(object);
    labels.contains_key("istio") || labels.get("release").is_some_and(|release| release == "istio")
}

/// Whether a pod's traffic goes through its node's proxy.
pub(super) fn pod_is_ambient(pod: &Value) -> bool {
    pod["metadata"]["annotations"][AMBIENT] == "enabled"
}

/// Whether a namespace is served by the proxies of nodes, and not by sidecars.
pub(super) fn namespace_is_ambient(namespace: &Value) -> bool {
    let labels = labels(namespace);
    let is = |key: &str, value: &str| labels.get(key).is_some_and(|v| v == value);
    !is(label::NAMESPACE_INJECTION, label::INJECTION_ENABLED)
        && labels.get(label::REVISION).is_none_or(String::is_empty)
        && is(label::DATAPLANE_MODE, "ambient")
}
