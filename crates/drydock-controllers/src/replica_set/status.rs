//! The ReplicaSet's status.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::{meta, pods};

/// A failure to make or delete pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    /// The server's words.
    pub message: String,
}

/// The status as it is to be, or `None` if it says so already.
#[must_use]
pub fn status(
    set: &ReplicaSet,
    owned: &[Arc<Pod>],
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<ReplicaSetStatus> {
    let before = set.status.clone().unwrap_or_default();
    let active: Vec<_> = owned.iter().filter(|pod| pods::is_active(pod)).collect();
    let template_labels = set
        .spec
        .as_ref()
        .and_then(|s| s.template.as_ref()?.metadata.as_ref()?.labels.as_ref());
    let fully_labeled = |pod: &Pod| {
        template_labels
            .iter()
            .flat_map(|labels| labels.iter())
            .all(|(key, value)| pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value))
    };
    let min_ready = min_ready_seconds(set);
    let count = |test: &dyn Fn(&Pod) -> bool| {
        let number = active.iter().filter(|pod| test(pod)).count();
        i32::try_from(number).ok()
    };
    let some = |number: Option<i32>| number.filter(|n| *n != 0);
    let status = ReplicaSetStatus {
        replicas: count(&|_| true).unwrap_or(i32::MAX),
        fully_labeled_replicas: some(count(&fully_labeled)),
        ready_replicas: some(count(&pods::is_ready)),
        available_replicas: some(count(&|pod| pods::is_available(pod, min_ready, now))),
        observed_generation: set.metadata.generation,
        terminating_replicas: None,
        conditions: conditions(&before, failure, now),
    };
    (set.status.as_ref() != Some(&status)).then_some(status)
}

fn conditions(
    before: &ReplicaSetStatus,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let current = conditions
        .iter()
        .position(|condition| condition.type_ == "ReplicaFailure");
    match (failure, current) {
        (Some(_), Some(_)) | (None, None) => {}
        (None, Some(at)) => {
            conditions.remove(at);
        }
        (Some(failure), None) => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some(failure.reason.into()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(meta::time(now)),
        }),
    }
    (!conditions.is_empty()).then_some(conditions)
}

pub(crate) fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

/// When a ready pod will count as available although nothing else happens.
#[must_use]
pub fn check_again(set: &ReplicaSet, owned: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let min_ready = min_ready_seconds(set);
    let waiting = |pod: &&Arc<Pod>| pods::is_ready(pod) && !pods::is_available(pod, min_ready, now);
    let any = owned.iter().filter(|pod| pods::is_active(pod)).any(|pod| waiting(&pod));
    any.then(|| Duration::from_secs(u64::try_from(min_ready).unwrap_or(0).clamp(1, 60)))
}
