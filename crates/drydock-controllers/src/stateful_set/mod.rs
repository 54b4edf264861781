//! StatefulSet: pods with numbers, made in order and replaced from the highest number down.
//!
//! Volume claim templates are refused in plain words: drydock has no storage of its own to bind them to.

mod controller;
mod pod;
#[cfg(test)]
mod tests;

pub use controller::start;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::{history, meta, pods};

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the pod of this number from this revision's template.
    Create {
        /// Ordinal.
        ordinal: i32,
        /// Value of the revision label.
        revision: String,
    },
    /// Delete this pod.
    Delete(Arc<Pod>),
}

/// What a decision is made from.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The StatefulSet.
    pub set: &'a StatefulSet,
    /// All its pods.
    pub owned: &'a [Arc<Pod>],
    /// Revision of the current template.
    pub update: &'a str,
    /// Revision that pods had before it.
    pub current: &'a str,
    /// Now.
    pub now: Timestamp,
}

impl Seen<'_> {
    fn replicas(&self) -> i32 {
        self.set
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
            .max(0)
    }

    fn start(&self) -> i32 {
        self.set
            .spec
            .as_ref()
            .and_then(|spec| spec.ordinals.as_ref()?.start)
            .unwrap_or(0)
    }

    fn parallel(&self) -> bool {
        self.set
            .spec
            .as_ref()
            .and_then(|spec| spec.pod_management_policy.as_deref())
            == Some("Parallel")
    }

    fn min_ready(&self) -> i32 {
        self.set
            .spec
            .as_ref()
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0)
    }

    fn pod(&self, ordinal: i32) -> Option<&Arc<Pod>> {
        self.owned
            .iter()
            .find(|pod| pod::ordinal(self.set, pod) == Some(ordinal))
    }

    /// Lowest number that is updated; `None` when pods are only replaced by hand.
    fn partition(&self) -> Option<i32> {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return None;
        }
        Some(strategy.and_then(|s| s.rolling_update.as_ref()?.partition).unwrap_or(0))
    }

    /// Which revision the pod of a number is made from.
    fn revision_for(&self, ordinal: i32) -> &str {
        let updated = self
            .partition()
            .is_none_or(|partition| ordinal - self.start() >= partition);
        if updated { self.update } else { self.current }
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready(), self.now) && !meta::is_terminating(&pod.metadata)
    }
}

/// One step: at most one pod at a time, unless the policy is Parallel.
#[must_use]
pub fn decide(seen: &Seen<'_>) -> Vec<Action> {
    if meta::is_terminating(&seen.set.metadata) {
        return Vec::new();
    }
    let wanted = seen.start()..seen.start() + seen.replicas();
    let mut actions = Vec::new();
    for ordinal in wanted.clone() {
        let action = match seen.pod(ordinal) {
            None => Action::Create {
                ordinal,
                revision: seen.revision_for(ordinal).to_owned(),
            },
            Some(pod) if pods::is_finished(pod) && !meta::is_terminating(&pod.metadata) => Action::Delete(pod.clone()),
            Some(pod) if seen.is_healthy(pod) || seen.parallel() => continue,
            Some(_) => return actions, // the next one waits for it
        };
        actions.push(action);
        if !seen.parallel() {
            return actions;
        }
    }
    let mut surplus: Vec<_> = seen
        .owned
        .iter()
        .filter(|pod| pod::ordinal(seen.set, pod).is_some_and(|o| !wanted.contains(&o)))
        .collect();
    surplus.sort_by_key(|pod| std::cmp::Reverse(pod::ordinal(seen.set, pod)));
    for pod in surplus {
        if !meta::is_terminating(&pod.metadata) {
            actions.push(Action::Delete(pod.clone()));
        }
        if !seen.parallel() {
            return actions;
        }
    }
    if actions.is_empty() {
        actions.extend(roll(seen));
    }
    actions
}

/// The next pod to be replaced: the highest number that is not of the new revision, once all above it are healthy.
fn roll(seen: &Seen<'_>) -> Option<Action> {
    let lowest = seen.start() + seen.partition()?;
    for ordinal in (lowest..seen.start() + seen.replicas()).rev() {
        let pod = seen.pod(ordinal)?;
        if meta::is_terminating(&pod.metadata) {
            return None;
        }
        if pod::revision(pod) != Some(seen.update) {
            return Some(Action::Delete(pod.clone()));
        }
        if !seen.is_healthy(pod) {
            return None;
        }
    }
    None
}

/// The status, or `None` if it says so already.
#[must_use]
pub fn status(seen: &Seen<'_>, names: (&str, &str), collisions: Option<i32>) -> Option<StatefulSetStatus> {
    let (current_name, update_name) = names;
    let alive: Vec<_> = seen.owned.iter().filter(|pod| pods::is_active(pod)).collect();
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(alive.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX);
    let some = |number: i32| (number != 0).then_some(number);
    let updated = count(&|pod| pod::revision(pod) == Some(seen.update));
    let ready = count(&pods::is_ready);
    let done = seen.partition().is_some_and(|partition| partition == 0)
        && updated == seen.replicas()
        && ready == seen.replicas()
        && count(&|_| true) == seen.replicas();
    let current_count = count(&|pod| pod::revision(pod) == Some(seen.current));
    let status = StatefulSetStatus {
        observed_generation: seen.set.metadata.generation,
        replicas: count(&|_| true),
        ready_replicas: some(ready),
        available_replicas: Some(count(&|pod| pods::is_available(pod, seen.min_ready(), seen.now))),
        current_replicas: some(if done { updated } else { current_count }),
        updated_replicas: some(updated),
        current_revision: Some(if done { update_name } else { current_name }.to_owned()),
        update_revision: Some(update_name.to_owned()),
        collision_count: collisions.or(Some(0)),
        conditions: seen.set.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    (seen.set.status.as_ref() != Some(&status)).then_some(status)
}

/// The revision that pods had before the current template: what the status says, if it is still known.
fn current_revision<'a>(
    set: &StatefulSet,
    known: &'a [Arc<ControllerRevision>],
    update: &'a ControllerRevision,
) -> &'a ControllerRevision {
    let name = set
        .status
        .as_ref()
        .and_then(|status| status.current_revision.as_deref());
    let named = known
        .iter()
        .find(|revision| name == Some(meta::name(&revision.metadata)));
    named.map_or(update, |revision| &**revision)
}

/// The template of the pod of a revision.
fn template_of(
    revision: &str,
    known: &[Arc<ControllerRevision>],
    update: &ControllerRevision,
) -> Option<k8s_openapi::api::core::v1::PodTemplateSpec> {
    let known = known.iter().map(|revision| &**revision).chain([update]);
    known
        .filter(|candidate| history::label(candidate) == revision)
        .find_map(history::template)
}
