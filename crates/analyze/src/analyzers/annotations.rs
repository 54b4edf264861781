//! Annotations that mean nothing, are in the wrong place or have a value that nobody understands.

mod known;

use api::names::{INIT_CONTAINER, label};
use revision::selector::Labels;
use serde_json::{Value, json};

use super::fields::{list, map};
use crate::message::{
    ALPHA_ANNOTATION, DEPRECATED_ANNOTATION, INVALID_ANNOTATION, MISPLACED_ANNOTATION, Message, UNKNOWN_ANNOTATION,
};
use crate::objects::{Objects, labels};

/// Kinds that are looked at.
const KINDS: [&str; 4] = ["Namespace", "Service", "Pod", "Deployment"];

/// Written by controllers, so that nobody could do anything about them.
const WRITTEN: [&str; 3] = [
    "sidecar.istio.io/status",
    "gateway.istio.io/controller-version",
    "istio.io/rev",
];

/// Written by injection where the node redirects traffic.
const WRITTEN_WITHOUT_INIT: [&str; 4] = [
    "sidecar.istio.io/interceptionMode",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
];

/// Whether the mesh would read it, if it knew it.
fn is_ours(annotation: &str) -> bool {
    let domain = annotation.split('/').next().unwrap_or_default();
    annotation == "kubernetes.io/ingress.class" || domain.ends_with("istio.io")
}

/// Kinds that make pods, and where the pod is in them.
const TEMPLATES: [(&str, &str); 6] = [
    ("Deployment", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    for (kind, pointer) in TEMPLATES {
        for object in objects.of_kind(kind) {
            let annotations = object
                .pointer(pointer)
                .map(|template| map(&template["metadata"]["annotations"]));
            template(object, &annotations.unwrap_or_default(), messages);
        }
    }
    for kind in KINDS {
        for object in objects.of_kind(kind) {
            for (annotation, value) in map(&object["metadata"]["annotations"]) {
                if is_ours(&annotation) && !WRITTEN.contains(&annotation.as_str()) {
                    one(object, kind, &annotation, &value, messages);
                }
            }
        }
    }
}

fn one(object: &Value, kind: &str, annotation: &str, value: &str, messages: &mut Vec<Message>) {
    let mut report = |code, text: String| messages.push(Message::about(code, object, text));
    let Some(known) = known::find(annotation) else {
        report(UNKNOWN_ANNOTATION, format!("Unknown annotation: {annotation}"));
        return;
    };
    let inject = annotation == label::SIDECAR_INJECT;
    // Who has the label as well knows, and serves older control planes.
    if known.deprecated && !(inject && labels(object).contains_key(label::SIDECAR_INJECT)) {
        let instead = if inject {
            r#" in favor of the "sidecar.istio.io/inject" label"#
        } else {
            ""
        };
        report(
            DEPRECATED_ANNOTATION,
            format!(
                "Annotation {annotation:?} has been deprecated{instead} and may not work in future Istio versions."
            ),
        );
    }
    if known.kinds.contains(&"Any") {
        return;
    }
    if !known.kinds.contains(&kind) {
        let kinds = known.kinds.join(", ");
        report(
            MISPLACED_ANNOTATION,
            format!("Misplaced annotation: {annotation} can only be applied to {kinds}"),
        );
        return;
    }
    for wrong in wrong(annotation, value) {
        report(INVALID_ANNOTATION, format!("Invalid annotation {annotation}: {wrong}"));
    }
}

/// A mistake in what pods will be made of is told before they are: injection refuses or ignores what it cannot use.
fn template(object: &Value, annotations: &Labels, messages: &mut Vec<Message>) {
    for (annotation, value) in annotations {
        let mut report = |code, text: String| messages.push(Message::about(code, object, text));
        if !is_ours(annotation) || WRITTEN.contains(&annotation.as_str()) {
            continue;
        }
        match known::find(annotation) {
            None => report(
                UNKNOWN_ANNOTATION,
                format!("Unknown annotation: {annotation} (in the pod template)"),
            ),
            Some(known) if known.kinds.iter().any(|kind| matches!(*kind, "Any" | "Pod")) => {
                for wrong in wrong(annotation, value) {
                    report(
                        INVALID_ANNOTATION,
                        format!("Invalid annotation {annotation} in the pod template: {wrong}"),
                    );
                }
            }
            Some(_) => {}
        }
    }
}

/// What is wrong with an annotation's value: it refuses the pod, or a part of it means nothing.
fn wrong(annotation: &str, value: &str) -> Vec<String> {
    let annotations = json!({ annotation: value });
    let refused = inject::annotation::validate(&annotations).err().map(|error| error.why);
    let prefix = format!("annotation {annotation}: ");
    let ignored = inject::annotation::warnings(&json!({ "annotations": annotations }))
        .into_iter()
        .map(|warning| warning.strip_prefix(&prefix).unwrap_or(&warning).to_owned());
    refused.into_iter().chain(ignored).collect()
}

pub(super) fn alpha(objects: &Objects, messages: &mut Vec<Message>) {
    for kind in KINDS {
        for object in objects.of_kind(kind) {
            let by_node = kind == "Pod" && list(object, "/spec/initContainers").all(|c| c["name"] != INIT_CONTAINER);
            for annotation in map(&object["metadata"]["annotations"]).into_keys() {
                let name = annotation.as_str();
                let written = WRITTEN.contains(&name) || (by_node && WRITTEN_WITHOUT_INIT.contains(&name));
                if known::find(name).is_some_and(|known| known.alpha) && !written {
                    let text = format!(
                        "Annotation {annotation:?} is part of an alpha-phase feature and may be incompletely supported."
                    );
                    messages.push(Message::about(ALPHA_ANNOTATION, object, text));
                }
            }
        }
    }
}
