//! Revisions: which ReplicaSet was the current one when, kept in annotations that `kubectl rollout history` reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{HASH_LABEL, Sets, numbers};
use crate::{hash, meta};

pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(crate) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(crate) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of the Deployment that its ReplicaSets do not inherit.
const NOT_INHERITED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
];

/// Annotations of a ReplicaSet or Deployment.
pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Revision of a ReplicaSet, 0 if it has none.
pub(crate) fn of(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Sets the two annotations that tell a later reconcile whether the Deployment was scaled meanwhile.
pub(crate) fn set_replica_annotations(meta: &mut ObjectMeta, desired: i32, max: i32) {
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(DESIRED.into(), desired.to_string());
    annotations.insert(MAX.into(), max.to_string());
}

/// The new ReplicaSet as it should be annotated, or `None` if it is already.
pub(crate) fn annotated(deployment: &Deployment, sets: &Sets) -> Option<ReplicaSet> {
    let current = sets.new.as_deref()?;
    let mut set = current.clone();
    let newest = sets.old.iter().map(|set| of(set)).max().unwrap_or(0) + 1;
    inherit(deployment, set.metadata.annotations.get_or_insert_default());
    let before = of(current);
    if before < newest {
        let annotations = set.metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION.into(), newest.to_string());
        if before > 0 {
            // The set is current for the second time (an undo): remember the revisions it used to have.
            let history = annotations.get(HISTORY).filter(|h| !h.is_empty());
            let history = history.map_or_else(|| before.to_string(), |h| format!("{h},{before}"));
            annotations.insert(HISTORY.into(), history);
        }
    }
    let min_ready = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    if let Some(spec) = &mut set.spec
        && spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0)
    {
        spec.min_ready_seconds = min_ready;
    }
    (set != *current).then_some(set)
}

fn inherit(deployment: &Deployment, annotations: &mut BTreeMap<String, String>) {
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_INHERITED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
}

/// The ReplicaSet that the Deployment's current template asks for.
pub(crate) fn make(deployment: &Deployment, sets: &Sets, replicas: i32) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash::template_hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector
        .match_labels
        .get_or_insert_default()
        .insert(HASH_LABEL.into(), hash.clone());

    let mut annotations = BTreeMap::new();
    inherit(deployment, &mut annotations);
    let newest = sets.old.iter().map(|set| of(set)).max().unwrap_or(0) + 1;
    annotations.insert(REVISION.into(), newest.to_string());
    let mut metadata = ObjectMeta {
        name: Some(format!("{}-{hash}", meta::name(&deployment.metadata))),
        namespace: deployment.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![meta::controller_ref(deployment)]),
        ..Default::default()
    };
    let wanted = numbers::wanted(deployment);
    set_replica_annotations(&mut metadata, wanted, wanted + numbers::bounds(deployment).surge);
    ReplicaSet {
        metadata,
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// The Deployment with the revision of its current ReplicaSet, or `None` if it says so already.
pub(crate) fn of_deployment(deployment: &Deployment, revision: &str) -> Option<Deployment> {
    if annotation(&deployment.metadata, REVISION) == Some(revision) {
        return None;
    }
    let mut deployment = deployment.clone();
    deployment
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(REVISION.into(), revision.to_owned());
    Some(deployment)
}

/// Old ReplicaSets that the history has no room for: empty ones, lowest revision first.
pub(crate) fn surplus(deployment: &Deployment, sets: &Sets) -> Vec<Arc<ReplicaSet>> {
    let keep = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.revision_history_limit)
        .unwrap_or(10);
    let mut old: Vec<_> = sets
        .old
        .iter()
        .filter(|set| !meta::is_terminating(&set.metadata))
        .cloned()
        .collect();
    let too_many = old.len().saturating_sub(usize::try_from(keep).unwrap_or(0));
    old.sort_by_key(|set| of(set));
    old.truncate(too_many);
    old.retain(|set| {
        let observed = set
            .status
            .as_ref()
            .and_then(|status| status.observed_generation)
            .unwrap_or(0);
        numbers::desired(set) == 0 && numbers::actual(set) == 0 && set.metadata.generation.unwrap_or(0) <= observed
    });
    old
}
