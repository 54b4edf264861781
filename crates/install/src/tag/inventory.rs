//! What a cluster holds of revisions and tags, and what that says of them. Pure.

use std::collections::BTreeSet;

use api::names::label;
use revision::webhook::Rule;

use super::{PREVIOUS, TagError, webhook_names};
use crate::object::Object;

/// What a cluster holds of revisions and tags.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// MutatingWebhookConfigurations with a revision label that lead to control planes of the system namespace, or out of
    /// the cluster.
    pub webhooks: Vec<Object>,
    /// Those that inject as well: of the mesh of another system namespace, or they do not say for which revision.
    pub strangers: Vec<Object>,
    /// Services of the system namespace with a revision or tag label.
    pub services: Vec<Object>,
    /// ValidatingWebhookConfigurations of Istio.
    pub validators: Vec<Object>,
    /// Pods of control planes.
    pub pods: Vec<Object>,
    /// Namespaces.
    pub namespaces: Vec<Object>,
}

impl Inventory {
    pub(super) fn canonical(&self, revision: &str) -> Result<(&Object, bool), TagError> {
        let own = |object: &&Object| object.label(label::REVISION) == revision && object.label(label::TAG).is_empty();
        let webhooks: Vec<_> = self.webhooks.iter().filter(own).collect();
        let services = self
            .services
            .iter()
            .filter(own)
            .filter(|s| s.label(label::APP) == "istiod")
            .count();
        match webhooks.as_slice() {
            [] if services > 0 || self.pods.iter().any(|pod| pod.label(label::REVISION) == revision) => {
                Err(TagError::Unfinished(revision.to_owned()))
            }
            [] => Err(TagError::NoRevision(revision.to_owned())),
            [webhook] if services <= 1 => Ok((webhook, services == 1)),
            _ => Err(TagError::Several(revision.to_owned())),
        }
    }

    pub(super) fn is_revision(&self, name: &str) -> bool {
        let untagged = |o: &&Object| o.label(label::REVISION) == name && o.label(label::TAG).is_empty();
        self.webhooks.iter().any(|o| untagged(&o))
            || self
                .services
                .iter()
                .any(|o| untagged(&o) && o.label(label::APP) == "istiod")
    }

    /// Webhook configurations and Services of a tag.
    pub fn of_tag<'a>(&'a self, tag: &str) -> impl Iterator<Item = &'a Object> {
        let tag = tag.to_owned();
        self.webhooks
            .iter()
            .chain(&self.services)
            .filter(move |o| !tag.is_empty() && o.label(label::TAG) == tag)
    }

    /// The revision that a tag points at.
    pub fn target(&self, tag: &str) -> Option<&str> {
        self.of_tag(tag).map(|object| object.label(label::REVISION)).next()
    }

    /// Has a tag its webhook configuration? (Its Service comes first.)
    pub(crate) fn injects_for(&self, tag: &str) -> bool {
        self.webhooks.iter().any(|webhook| webhook.label(label::TAG) == tag)
    }

    /// Whether a tag points at the revision, but somebody was cut off while making it.
    pub(super) fn is_half_made(&self, tag: &str, revision: &str, with_service: bool) -> bool {
        let has = |objects: &[Object]| objects.iter().any(|object| object.label(label::TAG) == tag);
        self.target(tag) == Some(revision) && with_service && has(&self.webhooks) != has(&self.services)
    }

    /// The revision that a tag pointed at before, if it was moved.
    pub fn previous(&self, tag: &str) -> Option<&str> {
        let webhook = self.webhooks.iter().find(|webhook| webhook.label(label::TAG) == tag)?;
        webhook.0.pointer("/metadata/annotations")?.get(PREVIOUS)?.as_str()
    }

    /// Whether a tag injects namespaces that say nothing.
    pub(super) fn is_automatic(&self, tag: &str) -> bool {
        let mut webhooks = self.webhooks.iter().filter(|webhook| webhook.label(label::TAG) == tag);
        webhooks.any(|configuration| {
            webhook_names(configuration).any(|name| Rule::of_webhook(name) == Some(Rule::Automatic))
        })
    }

    /// Has the revision a pod that is ready?
    pub fn is_ready(&self, revision: &str) -> bool {
        self.pods
            .iter()
            .any(|pod| pod.label(label::REVISION) == revision && crate::ready::is_pod_ready(pod))
    }

    /// Names of namespaces that a label points at a revision or tag.
    pub fn namespaces_of(&self, name: &str) -> Vec<&str> {
        self.namespaces
            .iter()
            .filter(|namespace| {
                let labels = namespace.0.pointer("/metadata/labels");
                let label = |key| labels.and_then(|labels| labels.get(key));
                // The other label wins, whatever it says.
                label(label::REVISION).is_some_and(|value| value == name) && label(label::NAMESPACE_INJECTION).is_none()
            })
            .map(Object::name)
            .collect()
    }

    /// Names of namespaces that follow the default revision by `istio-injection=enabled`.
    pub fn injected_namespaces(&self) -> Vec<&str> {
        let enabled = |n: &&Object| n.label(label::NAMESPACE_INJECTION) == label::INJECTION_ENABLED;
        self.namespaces.iter().filter(enabled).map(Object::name).collect()
    }

    /// Makes revisions and tags of other system namespaces its own.
    pub fn add_other_meshes(&mut self) {
        let is_revisioned = |object: &Object| !object.label(label::REVISION).is_empty();
        let (revisioned, strangers) = std::mem::take(&mut self.strangers).into_iter().partition(is_revisioned);
        self.strangers = strangers;
        self.webhooks.extend::<Vec<_>>(revisioned);
    }

    /// Names of all revisions with a control plane here, sorted.
    pub fn revisions(&self) -> Vec<&str> {
        let untagged = |o: &&Object| o.label(label::TAG).is_empty();
        let webhooks = self
            .webhooks
            .iter()
            .filter(untagged)
            .filter(|o| o.name().starts_with("istio-sidecar-injector"));
        let services = self
            .services
            .iter()
            .filter(untagged)
            .filter(|o| o.label(label::APP) == "istiod");
        webhooks
            .chain(services)
            .map(|o| o.label(label::REVISION))
            .filter(|r| !r.is_empty())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }
}
