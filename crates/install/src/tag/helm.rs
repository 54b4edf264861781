//! Tags and Helm: a field has one writer, so that what a release made is moved by Helm.

use api::names::{label, object};
use revision::name::{DEFAULT, Revision};
use serde_json::{Value, json};

use super::{Inventory, TagError};
use crate::object::Object;
use crate::owner;

/// A tag that Helm made is Helm's to move.
pub(super) fn refuse(inventory: &Inventory, tag: &str, revision: &str) -> Result<(), TagError> {
    let mut made = inventory
        .of_tag(tag)
        .filter_map(|object| Some((object, owner::release(object)?)));
    match made.next() {
        None => Ok(()),
        Some((object, release)) => Err(TagError::Helm {
            tag: tag.to_owned(),
            release,
            chart: object.label(label::HELM_CHART).to_owned(),
            revision: revision.to_owned(),
        }),
    }
}

/// How Helm moves a tag of its own.
pub(super) fn way(release: &str, chart: &str, tag: &str, revision: &str) -> String {
    if !chart.starts_with("revisiontags-") {
        return format!(
            "whose control plane it points at: take it out of that release's revisionTags, then set it for {revision}"
        );
    }
    let (name, namespace) = release.split_once(' ').unwrap_or((release, ""));
    let revision = if revision == DEFAULT { "" } else { revision };
    format!(
        "which would move it back ({tag} and the other tags of that release move with: helm upgrade {name} \
         manifests/charts/revisiontags {namespace} --reuse-values --set revision={revision})"
    )
}

/// Of a validator that Helm made (chart `base`) only what says where it leads is the tag's; all else stays Helm's, which
/// also leaves it where the tag leads.
pub(super) fn repointed(revision: &Revision, mut webhook: Value) -> Object {
    if let Some(fields) = webhook.as_object_mut() {
        fields.retain(|field, _| matches!(field.as_str(), "name" | "clientConfig" | "objectSelector"));
    }
    Object(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": object::DEFAULT_VALIDATOR, "labels": {label::REVISION: revision.label()}},
        "webhooks": [webhook],
    }))
}
