//! ControllerRevisions: the templates that a StatefulSet or DaemonSet has had, for `kubectl rollout history` and `undo`.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource;
use serde_json::json;

use crate::{hash, meta};

/// Label of pods that tells the revision they were made from.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// The revision of the current template, and what is to be written for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// The revision as it should be.
    pub revision: ControllerRevision,
    /// It is not on the server yet.
    pub missing: bool,
    /// It is there, but an older one has the highest number.
    pub renumber: bool,
}

/// Finds the revision of `template` among `known`, or makes it.
pub fn current<K>(
    owner: &K,
    template: &PodTemplateSpec,
    selector: &LabelSelector,
    known: &[Arc<ControllerRevision>],
    collisions: Option<i32>,
) -> Current
where
    K: Resource<DynamicType = ()>,
{
    let mut patched = json!({ "spec": { "template": template } });
    // What kubectl applies when it goes back to this revision: the whole template, not a merge into the current one.
    patched["spec"]["template"]["$patch"] = "replace".into();
    let newest = known.iter().map(|revision| revision.revision).max().unwrap_or(0);
    if let Some(same) = known.iter().find(|revision| data(revision) == Some(&patched)) {
        let renumber = same.revision < newest;
        let mut revision = (**same).clone();
        if renumber {
            revision.revision = newest + 1;
        }
        return Current {
            revision,
            missing: false,
            renumber,
        };
    }
    let hash = hash::template_hash(&patched, collisions);
    let mut labels = selector.match_labels.clone().unwrap_or_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(owner.meta()))),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone().map(|mut annotations| {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
                annotations
            }),
            owner_references: Some(vec![meta::controller_ref(owner)]),
            ..Default::default()
        },
        data: Some(k8s_openapi::apimachinery::pkg::runtime::RawExtension(patched)),
        revision: newest + 1,
    };
    Current {
        revision,
        missing: true,
        renumber: false,
    }
}

fn data(revision: &ControllerRevision) -> Option<&serde_json::Value> {
    revision.data.as_ref().map(|data| &data.0)
}

/// The label value of a revision: what its pods carry.
#[must_use]
pub fn label(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(HASH_LABEL))
        .map_or_else(|| meta::name(&revision.metadata), String::as_str)
}

/// The template that a revision holds.
#[must_use]
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = data(revision)?.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.shift_remove("$patch");
    serde_json::from_value(template).ok()
}

/// Revisions beyond the limit that no pod uses, oldest first.
#[must_use]
pub fn surplus(
    known: &[Arc<ControllerRevision>],
    keep: i32,
    in_use: &dyn Fn(&str) -> bool,
) -> Vec<Arc<ControllerRevision>> {
    let mut free: Vec<_> = known
        .iter()
        .filter(|revision| !in_use(label(revision)))
        .cloned()
        .collect();
    free.sort_by_key(|revision| revision.revision);
    let too_many = free.len().saturating_sub(usize::try_from(keep).unwrap_or(0));
    free.truncate(too_many);
    free
}
