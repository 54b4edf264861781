//! Sidecars and Telemetries: at most one of each for a workload, and each for some workload.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fields::{full_name, map, selects, shown};
use super::membership;
use crate::message::{
    CONFLICTING_SIDECARS, CONFLICTING_TELEMETRIES, Code, INEFFECTIVE_POLICY, Message, REFERENCED_RESOURCE_NOT_FOUND,
    SEVERAL_DEFAULT_SIDECARS, SEVERAL_DEFAULT_TELEMETRIES,
};
use crate::objects::{Objects, labels, name, namespace};

/// The objects of a kind that each pod is selected by; what selects none is reported.
fn by_pod<'a>(
    objects: &'a Objects,
    kind: &str,
    selector: &str,
    messages: &mut Vec<Message>,
) -> Vec<(&'a Value, Vec<&'a Value>)> {
    let mut found: BTreeMap<(&str, &str), (&Value, Vec<&Value>)> = BTreeMap::new();
    for object in objects.of_kind(kind) {
        let wanted = object.pointer(selector).map(map).unwrap_or_default();
        if wanted.is_empty() {
            continue;
        }
        let mut selected = objects
            .of_kind("Pod")
            .filter(|pod| namespace(pod) == namespace(object) && selects(&wanted, &labels(pod)))
            .peekable();
        if selected.peek().is_none() {
            let text = format!("Referenced selector not found: {:?}", shown(&wanted));
            messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, object, text));
        }
        for pod in selected {
            let key = (namespace(pod), name(pod));
            found.entry(key).or_insert_with(|| (pod, Vec::new())).1.push(object);
        }
    }
    found.into_values().collect()
}

fn names(of: &[&Value]) -> String {
    let names: BTreeSet<&str> = of.iter().map(|object| name(object)).collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

fn conflict(kinds: &str, code: Code, pod: &Value, rivals: &[&Value], messages: &mut Vec<Message>) {
    let text = format!(
        "The {kinds} [{}] in namespace {:?} select the same workload pod {:?}, which can lead to undefined behavior.",
        names(rivals),
        namespace(pod),
        name(pod)
    );
    messages.extend(rivals.iter().map(|object| Message::about(code, object, text.clone())));
}

/// Objects without a selector, by namespace.
fn defaults<'a>(objects: &'a Objects, kind: &str, has_selector: impl Fn(&Value) -> bool) -> Vec<Vec<&'a Value>> {
    let mut found: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for object in objects.of_kind(kind).filter(|object| !has_selector(object)) {
        found.entry(namespace(object)).or_default().push(object);
    }
    found.into_values().collect()
}

fn several(kinds: &str, code: Code, rivals: &[&Value], messages: &mut Vec<Message>) {
    let [first, _, ..] = rivals else { return };
    let text = format!(
        "The {kinds} [{}] in namespace {:?} have no workload selector, which can lead to undefined behavior.",
        names(rivals),
        namespace(first)
    );
    messages.extend(rivals.iter().map(|object| Message::about(code, object, text.clone())));
}

pub(super) fn sidecars(objects: &Objects, messages: &mut Vec<Message>) {
    const SELECTOR: &str = "/spec/workloadSelector/labels";
    let mut ineffective: BTreeSet<String> = BTreeSet::new();
    let mut has_no_effect = |sidecar: &Value, of: &str, messages: &mut Vec<Message>| {
        if ineffective.insert(full_name(sidecar)) {
            let text = format!("The policy has no impact: {of} is in ambient mode, the policy has no impact.");
            messages.push(Message::about(INEFFECTIVE_POLICY, sidecar, text));
        }
    };
    for (pod, rivals) in by_pod(objects, "Sidecar", SELECTOR, messages) {
        if membership::pod_is_ambient(pod) {
            for sidecar in rivals {
                has_no_effect(sidecar, "selected workload", messages);
            }
        } else if rivals.len() > 1 {
            conflict("Sidecars", CONFLICTING_SIDECARS, pod, &rivals, messages);
        }
    }
    let has_selector = |sidecar: &Value| sidecar.pointer(SELECTOR).is_some_and(|labels| !map(labels).is_empty());
    for rivals in defaults(objects, "Sidecar", has_selector) {
        let of = rivals.first().map(|sidecar| namespace(sidecar)).unwrap_or_default();
        if objects
            .get("Namespace", "", of)
            .is_some_and(membership::namespace_is_ambient)
        {
            for sidecar in rivals {
                has_no_effect(sidecar, "namespace", messages);
            }
        } else {
            several("Sidecars", SEVERAL_DEFAULT_SIDECARS, &rivals, messages);
        }
    }
}

pub(super) fn telemetries(objects: &Objects, messages: &mut Vec<Message>) {
    for (pod, rivals) in by_pod(objects, "Telemetry", "/spec/selector/matchLabels", messages) {
        if rivals.len() > 1 {
            conflict("Telemetries", CONFLICTING_TELEMETRIES, pod, &rivals, messages);
        }
    }
}

pub(super) fn default_telemetries(objects: &Objects, messages: &mut Vec<Message>) {
    for rivals in defaults(objects, "Telemetry", |telemetry| {
        telemetry["spec"].get("selector").is_some()
    }) {
        several("Telemetries", SEVERAL_DEFAULT_TELEMETRIES, &rivals, messages);
    }
}
