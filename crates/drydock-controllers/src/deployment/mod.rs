//! Deployment: keeps the ReplicaSet of the current template, moves replicas to it from older ones, remembers revisions.
//!
//! [`decide`] is pure: one step from what is seen to what is to be written. The shell calls it again after every change,
//! so a rollout is a walk of many small steps, each of which can be repeated.

mod conditions;
mod controller;
mod numbers;
mod revision;
mod rolling;
mod scale;
mod status;
#[cfg(test)]
mod tests;

pub use controller::start;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::jiff::Timestamp;

use crate::meta::age_order;
use crate::{meta, selector};

/// Label that tells the pods (and ReplicaSets) of one template from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";

/// What a decision is made from.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// The ReplicaSets that it owns.
    pub replica_sets: &'a [Arc<ReplicaSet>],
    /// Uids of the ReplicaSets that have pods which have not ended (Recreate waits for them).
    pub running: &'a BTreeSet<String>,
    /// Now.
    pub now: Timestamp,
}

/// One write, or one event.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the ReplicaSet of the current template.
    Create(Box<ReplicaSet>),
    /// Write spec or annotations of a ReplicaSet.
    Update(Box<ReplicaSet>),
    /// Delete an old ReplicaSet that the history no longer has room for.
    Delete(Arc<ReplicaSet>),
    /// Set annotations of the Deployment (its revision).
    Annotate(Box<Deployment>),
    /// Write the Deployment's status.
    Status(Box<DeploymentStatus>),
    /// Record that a ReplicaSet is scaled.
    Scaled(String),
    /// Warn about the Deployment itself.
    Warn(&'static str, String),
    /// Look again after this time: a rollout may have got stuck by then.
    Requeue(Duration),
}

/// The Deployment's ReplicaSets, told apart.
pub(crate) struct Sets {
    /// The one of the current template.
    pub new: Option<Arc<ReplicaSet>>,
    /// All others, oldest first.
    pub old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    pub fn of(deployment: &Deployment, all: &[Arc<ReplicaSet>]) -> Self {
        let mut by_age: Vec<_> = all.to_vec();
        by_age.sort_by(|a, b| age_order(&a.metadata).cmp(&age_order(&b.metadata)));
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        // Of several with the same template the oldest counts, so that every reader picks the same.
        let new = by_age
            .iter()
            .position(|set| same_template(set.spec.as_ref().and_then(|s| s.template.as_ref()), template));
        let new = new.map(|at| by_age.remove(at));
        Sets { new, old: by_age }
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }
}

/// Whether two templates are the same but for the hash label.
fn same_template(a: Option<&PodTemplateSpec>, b: Option<&PodTemplateSpec>) -> bool {
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(meta) = &mut template.metadata {
            if let Some(labels) = &mut meta.labels {
                labels.remove(HASH_LABEL);
            }
            // A server fills it in for one and not for the other.
            meta.creation_timestamp = None;
            meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
        }
        template
    };
    match (a, b) {
        (Some(a), Some(b)) => bare(a) == bare(b),
        _ => false,
    }
}

/// One step of the controller.
#[must_use]
pub fn decide(seen: &Seen<'_>) -> Vec<Action> {
    let Some(spec) = &seen.deployment.spec else {
        return Vec::new();
    };
    if selector::is_empty(&spec.selector) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        return vec![Action::Warn("SelectingAll", message.into())];
    }
    let sets = Sets::of(seen.deployment, seen.replica_sets);
    if meta::is_terminating(&seen.deployment.metadata) {
        return status::plain(seen, &sets);
    }
    if let Some(action) = conditions::pause_change(seen) {
        return vec![action];
    }
    if spec.paused == Some(true) || scale::is_scaling(seen.deployment, &sets) {
        return scale::step(seen, &sets);
    }
    match spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) {
        Some("Recreate") => rolling::recreate(seen, &sets),
        _ => rolling::roll(seen, &sets),
    }
}
