//! Labels that name a revision or tag which does not exist, or the default revision where there is none: their pods start
//! without a proxy, or not at all.

use std::collections::BTreeSet;

use api::names::{label, object};
use revision::selector::{Labels, Selector};
use revision::webhook::WEBHOOK_SUFFIX;
use serde_json::Value;

use super::is_system;
use crate::message::{Level, Message, REFERENCED_RESOURCE_NOT_FOUND};
use crate::objects::{Objects, labels, name};
use crate::selectors;

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
        if was_here(objects) && !objects.lacks("MutatingWebhookConfiguration") {
            left_behind(objects, messages);
        }
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
    let injectors = injectors(objects).unwrap_or_default();
    for (namespace, object) in objects.namespaces().filter(|(name, _)| !is_system(name)) {
        let labels: Labels = labels(object);
        let Some(name) = labels
            .get(label::REVISION)
            .filter(|name| !known.contains(name.as_str()))
        else {
            continue;
        };
        // The default injects a namespace labelled for it, whatever else it names.
        let then = if is_enabled(&labels) && injectors.iter().any(|selector| selector.matches(&labels)) {
            format!(
                "Its new pods are injected nevertheless, by its label istio-injection=enabled. The other label means \
                 nothing: kubectl label namespace {namespace} istio.io/rev-"
            )
        } else {
            "Its new pods start without a proxy.".to_owned()
        };
        let text = format!("{} {then}", missing(name));
        messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, object, text));
    }
    without_default(objects, messages);
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

/// Whether a mesh has been here: its definitions, or the root certificates that istiod gives to namespaces, outlive it.
fn was_here(objects: &Objects) -> bool {
    let of_mesh = |definition: &Value| {
        let group = definition.pointer("/spec/group").and_then(Value::as_str);
        group.is_some_and(|group| group.ends_with(".istio.io"))
    };
    objects.of_kind("CustomResourceDefinition").any(of_mesh)
        || objects
            .of_kind("ConfigMap")
            .any(|map| name(map) == object::ROOT_CERT_CONFIG_MAP)
}

/// Labels of namespaces that the last control plane left behind. A name is wrong until a revision of that name is back;
/// `istio-injection=enabled` is right again with any default, so that it is only worth a word.
fn left_behind(objects: &Objects, messages: &mut Vec<Message>) {
    for (namespace, object) in objects.namespaces().filter(|(name, _)| !is_system(name)) {
        let labels = labels(object);
        if let Some(revision) = labels.get(label::REVISION) {
            let text = format!(
                "Referenced revision or tag not found: {revision:?}. No control plane is left, and one of another name does \
                 not inject this namespace. If it is not to come back: kubectl label namespace {namespace} istio.io/rev-"
            );
            messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, object, text).at(Level::Warning));
        } else if is_enabled(&labels) {
            let text = format!(
                "Referenced default revision not found: namespace {namespace:?} is labelled istio-injection=enabled, but no \
                 control plane is left. Its new pods start without a proxy until there is a default revision again."
            );
            messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, object, text).at(Level::Info));
        }
    }
}

/// Namespaces labelled `istio-injection=enabled`, while no injector answers for that label: the tag `default` was removed,
/// and the injector of the unnamed revision stays switched off.
fn without_default(objects: &Objects, messages: &mut Vec<Message>) {
    let Some(injectors) = injectors(objects) else {
        return;
    };
    for (name, object) in objects.namespaces().filter(|(name, _)| !is_system(name)) {
        let labels: Labels = labels(object);
        if is_enabled(&labels) && !injectors.iter().any(|selector| selector.matches(&labels)) {
            messages.push(Message::about(
                REFERENCED_RESOURCE_NOT_FOUND,
                object,
                format!(
                    "Referenced default revision not found: namespace {name:?} is labelled istio-injection=enabled, but no \
                     injector answers for that. Its new pods start without a proxy: make a revision the default one with \
                     'istioctl tag set default --revision <REVISION>'."
                ),
            ));
        }
    }
}

fn is_enabled(labels: &Labels) -> bool {
    labels
        .get(label::NAMESPACE_INJECTION)
        .is_some_and(|value| value == label::INJECTION_ENABLED)
}

/// Which namespaces some injector selects. What cannot be read may select anything, and without an injector nothing is
/// known.
fn injectors(objects: &Objects) -> Option<Vec<Selector>> {
    let revisioned = |configuration: &&Value| labels(configuration).contains_key(label::REVISION);
    let configurations = objects.of_kind("MutatingWebhookConfiguration").filter(revisioned);
    let selectors: Vec<Vec<Selector>> = configurations.map(selectors_of).collect::<Option<_>>()?;
    (!selectors.is_empty()).then(|| selectors.into_iter().flatten().collect())
}

/// Which namespaces the webhooks of an injector select; nothing if that cannot be read, or there is none.
fn selectors_of(configuration: &Value) -> Option<Vec<Selector>> {
    let webhooks = configuration["webhooks"].as_array()?.iter();
    let own = webhooks.filter(|webhook| {
        let name = webhook["name"].as_str();
        name.is_some_and(|name| name.ends_with(WEBHOOK_SUFFIX))
    });
    let selectors: Vec<Selector> = own
        .map(|webhook| selectors::read(&webhook["namespaceSelector"]))
        .collect::<Option<_>>()?;
    (!selectors.is_empty()).then_some(selectors)
}
