//! Labels that name a revision or tag which does not exist, or the default revision where there is none: their pods start
//! without a proxy, or not at all.

use std::collections::BTreeSet;

use api::names::{DEFAULT_REVISION, label, object};
use revision::selector::{Labels, Selector};
use revision::webhook::WEBHOOK_SUFFIX;
use serde_json::Value;

use super::{is_system, remedy};
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

/// Revisions and tags that a label may name, sorted.
pub(super) fn existing(objects: &Objects) -> Vec<String> {
    let names = names(objects);
    names.revisions.union(&names.tags).cloned().collect()
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
        .union(&names.tags)
        .map(String::as_str)
        .collect::<BTreeSet<_>>();
    let list = existing(objects).join(", ");
    let missing = |name: &str| format!("Referenced revision or tag not found: {name:?}. Existing ones: {list}.");
    let injectors = injectors(objects).unwrap_or_default();
    let selects = |labels: &Labels| injectors.iter().any(|injector| injector.namespaces.matches(labels));
    for (namespace, object) in objects.namespaces().filter(|(name, _)| !is_system(name)) {
        let labels: Labels = labels(object);
        let Some(name) = labels
            .get(label::REVISION)
            .filter(|name| !known.contains(name.as_str()))
        else {
            continue;
        };
        // The default injects a namespace labelled for it, whatever else it names.
        let then = if is_enabled(&labels) && selects(&labels) {
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
                     namespaces can start: move it with {}, or {}.",
                    remedy::moving(webhook, tag),
                    remedy::removing(webhook, tag)
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
            let back = match revision.as_str() {
                DEFAULT_REVISION => "the next one that is installed injects this namespace again",
                _ => "one of another name does not inject this namespace",
            };
            let text = format!(
                "Referenced revision or tag not found: {revision:?}. No control plane is left, and {back}. If it is not to come back: kubectl label namespace {namespace} istio.io/rev-"
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
        if is_enabled(&labels) && !injectors.iter().any(|injector| injector.namespaces.matches(&labels)) {
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

/// A webhook that injects, and the revision behind it.
pub(super) struct Injector {
    pub(super) revision: String,
    namespaces: Selector,
    pods: Selector,
}

impl Injector {
    /// Does it inject such a pod of such a namespace?
    pub(super) fn answers(&self, namespace: &Labels, pod: &Labels) -> bool {
        self.namespaces.matches(namespace) && self.pods.matches(pod)
    }
}

/// Who injects. Nothing is known if what is there cannot be read, or if there is none though nothing tells that a mesh
/// has been here.
pub(super) fn injectors(objects: &Objects) -> Option<Vec<Injector>> {
    let revisioned = |configuration: &&Value| labels(configuration).contains_key(label::REVISION);
    let configurations = objects.of_kind("MutatingWebhookConfiguration").filter(revisioned);
    let injectors: Vec<Vec<Injector>> = configurations.map(webhooks_of).collect::<Option<_>>()?;
    let is_known = !injectors.is_empty() || (was_here(objects) && !objects.lacks("MutatingWebhookConfiguration"));
    is_known.then(|| injectors.into_iter().flatten().collect())
}

/// The webhooks of an injector; nothing if they cannot be read, or there is none.
fn webhooks_of(configuration: &Value) -> Option<Vec<Injector>> {
    let webhooks = configuration["webhooks"].as_array()?.iter();
    let own = webhooks.filter(|webhook| {
        let name = webhook["name"].as_str();
        name.is_some_and(|name| name.ends_with(WEBHOOK_SUFFIX))
    });
    let revision = labels(configuration).remove(label::REVISION).unwrap_or_default();
    let injectors: Vec<Injector> = own
        .map(|webhook| {
            Some(Injector {
                revision: revision.clone(),
                namespaces: selectors::read(&webhook["namespaceSelector"])?,
                pods: selectors::read(&webhook["objectSelector"])?,
            })
        })
        .collect::<Option<_>>()?;
    (!injectors.is_empty()).then_some(injectors)
}
