//! Namespaces that say nothing or too much of injection, and pods that lack a proxy.

use api::names::{PROXY_CONTAINER, label};
use revision::selector::Labels;
use serde_json::Value;

use super::fields::full_name;
use super::{is_system, revisions, served};
use crate::message::{
    INJECTED_BY_DEFAULT, Message, NAMESPACE_MULTIPLE_INJECTION_LABELS, NAMESPACE_NOT_INJECTED, POD_MISSING_PROXY,
};
use crate::objects::{Objects, labels, name, namespace};

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    let by_default = injects_by_default(objects);
    for (name, object) in objects.namespaces().filter(|(name, _)| !is_system(name)) {
        let labels = labels(object);
        let given = given(&labels);
        if given.len() > 1 {
            messages.push(Message::about(
                NAMESPACE_MULTIPLE_INJECTION_LABELS,
                object,
                format!(
                    "The namespace has more than one type of injection labels [{}], which may lead to undefined \
                     behavior. Make sure only one injection label exists.",
                    given.join(" ")
                ),
            ));
        }
        if labels.get(label::DATAPLANE_MODE).is_some_and(|mode| mode == "ambient") {
            continue;
        }
        let injection = labels.get(label::NAMESPACE_INJECTION).map(String::as_str);
        let is_named = labels.contains_key(label::REVISION);
        if matches!(injection, None | Some("")) && !is_named {
            messages.push(says_nothing(name, object, by_default));
        } else if injection == Some(label::INJECTION_ENABLED) || (injection.is_none() && is_named) {
            pods(objects, name, &labels, messages);
        }
    }
}

/// The labels of a namespace that say who its proxies are from, as `key=value`. Beside one that says no, others say
/// nothing.
fn given(labels: &Labels) -> Vec<String> {
    let injection = labels.get(label::NAMESPACE_INJECTION);
    let counts = injection.is_none_or(|value| value == label::INJECTION_ENABLED);
    let others = [label::REVISION, label::DATAPLANE_MODE]
        .into_iter()
        .filter(|_| counts)
        .filter_map(|key| Some((key, labels.get(key)?)))
        .filter(|(_, value)| *value != "none");
    let injection = injection.map(|value| (label::NAMESPACE_INJECTION, value));
    let all = injection.into_iter().chain(others);
    all.map(|(key, value)| format!("{key}={value}")).collect()
}

fn says_nothing(name: &str, object: &Value, by_default: bool) -> Message {
    if by_default {
        return Message::about(
            INJECTED_BY_DEFAULT,
            object,
            "is enabled for Istio injection, as Istio is installed with enableNamespacesByDefault as true.",
        );
    }
    Message::about(
        NAMESPACE_NOT_INJECTED,
        object,
        format!(
            "The namespace is not enabled for Istio injection. Run 'kubectl label namespace {name} istio-injection=enabled' \
             to enable it, or 'kubectl label namespace {name} istio-injection=disabled' to explicitly mark it as not \
             needing injection."
        ),
    )
}

fn pods(objects: &Objects, of: &str, labels: &Labels, messages: &mut Vec<Message>) {
    let injectors = revisions::injectors(objects);
    for pod in objects.of_kind("Pod").filter(|pod| namespace(pod) == of) {
        let says_no = says_no(pod) || pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true));
        let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
        if says_no || matches!(phase, "Succeeded" | "Failed") || has_proxy(pod) {
            continue;
        }
        let of_pod = self::labels(pod);
        let answering = injectors
            .as_ref()
            .map(|injectors| injectors.iter().find(|injector| injector.answers(labels, &of_pod)));
        let remedy = match answering {
            Some(None) => nobody(objects, of, labels),
            Some(Some(injector)) if served::is_asleep(objects, &injector.revision) => format!(
                "Do not restart it yet: no istiod of revision {:?} is ready, and new pods are refused until one is.",
                injector.revision
            ),
            _ => "This can often be resolved by restarting or redeploying the workload.".to_owned(),
        };
        let text = format!("The pod {} is missing the Istio proxy. {remedy}", full_name(pod));
        messages.push(Message::about(POD_MISSING_PROXY, pod, text));
    }
}

/// The label says it, or the annotation where there is no label.
fn says_no(pod: &Value) -> bool {
    let metadata = &pod["metadata"];
    [&metadata["labels"], &metadata["annotations"]]
        .into_iter()
        .find_map(|of| of[label::SIDECAR_INJECT].as_str())
        .is_some_and(|value| value.eq_ignore_ascii_case("false"))
}

/// What helps where no injector selects a pod: a restart would not.
fn nobody(objects: &Objects, namespace: &str, labels: &Labels) -> String {
    let way = match labels.get(label::REVISION) {
        Some(name) if !labels.contains_key(label::NAMESPACE_INJECTION) => {
            let existing = revisions::existing(objects);
            let instead = if existing.is_empty() {
                String::new()
            } else {
                format!(
                    ", or label the namespace with one that exists ({}): kubectl label namespace {namespace} \
                     istio.io/rev=<REVISION> --overwrite",
                    existing.join(", ")
                )
            };
            format!("install revision {name:?}{instead}")
        }
        _ => "make a revision the default one with 'istioctl tag set default --revision <REVISION>'".to_owned(),
    };
    format!("A restart does not bring it, because no injector selects the pod: first {way}. Then restart the workload.")
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
