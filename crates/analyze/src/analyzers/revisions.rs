//! Labels that name a revision or tag which does not exist: their pods start without a proxy, or not at all.

use std::collections::BTreeSet;

use api::names::label;

use super::is_system;
use crate::message::{Message, REFERENCED_RESOURCE_NOT_FOUND};
use crate::objects::{Objects, labels};

/// Names that exist in a cluster.
struct Names {
    revisions: BTreeSet<String>,
    tags: BTreeSet<String>,
}

fn names(objects: &Objects) -> Names {
    let mut names = Names {
        revisions: BTreeSet::new(),
        tags: BTreeSet::new(),
    };
    for webhook in objects.of_kind("MutatingWebhookConfiguration") {
        let labels = labels(webhook);
        match (labels.get(label::TAG), labels.get(label::REVISION)) {
            (Some(tag), Some(_)) => names.tags.insert(tag.clone()),
            (None, Some(revision)) => names.revisions.insert(revision.clone()),
            _ => false,
        };
    }
    names
}

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    let names = names(objects);
    // Without any control plane there is nothing to compare with: files alone, or a cluster before installation.
    if names.revisions.is_empty() && names.tags.is_empty() {
        return;
    }
    let known = names
        .revisions
        .iter()
        .chain(&names.tags)
        .map(String::as_str)
        .collect::<BTreeSet<_>>();
    let list = known.iter().copied().collect::<Vec<_>>().join(", ");
    let missing = |name: &str| format!("Referenced revision or tag not found: {name:?}. Existing ones: {list}.");
    for (_, object) in objects.namespaces().filter(|(name, _)| !is_system(name)) {
        if let Some(name) = labels(object)
            .get(label::REVISION)
            .filter(|name| !known.contains(name.as_str()))
        {
            messages.push(Message::about(
                REFERENCED_RESOURCE_NOT_FOUND,
                object,
                format!("{} Its new pods start without a proxy.", missing(name)),
            ));
        }
    }
    for pod in objects.of_kind("Pod") {
        let labels = labels(pod);
        // Control planes and gateways of an installation carry their own revision.
        let component = labels.contains_key(label::OPERATOR_COMPONENT);
        if let Some(name) = labels
            .get(label::REVISION)
            .filter(|name| !component && !known.contains(name.as_str()))
        {
            messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, pod, missing(name)));
        }
    }
    for webhook in objects.of_kind("MutatingWebhookConfiguration") {
        let labels = labels(webhook);
        let (Some(tag), Some(revision)) = (labels.get(label::TAG), labels.get(label::REVISION)) else {
            continue;
        };
        if !names.revisions.contains(revision) {
            messages.push(Message::about(
                REFERENCED_RESOURCE_NOT_FOUND,
                webhook,
                format!(
                    "Referenced revision not found: {revision:?}. Tag {tag:?} points at it, so no pod of the tag's \
                     namespaces can start: move it with 'istioctl tag set {tag} --revision <REVISION> --overwrite' or \
                     remove it with 'istioctl tag remove {tag}'."
                ),
            ));
        }
    }
}
