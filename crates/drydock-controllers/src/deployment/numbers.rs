//! Replica counts of a Deployment and its ReplicaSets, and the bounds of a rolling update.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Replicas that the Deployment wants (default 1).
pub(crate) fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Replicas that a ReplicaSet is told to have.
pub(crate) fn desired(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Replicas that a ReplicaSet has.
pub(crate) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

/// Replicas of a ReplicaSet that are available.
pub(crate) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

/// Replicas that are available and will stay: a status that lags behind counts pods that are already on their way out.
pub(crate) fn lasting(set: &ReplicaSet) -> i32 {
    available(set).min(desired(set))
}

/// Replicas of a ReplicaSet that are ready.
pub(crate) fn ready(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0)
}

/// Sum of one number over ReplicaSets.
pub(crate) fn sum<'a>(sets: impl IntoIterator<Item = &'a Arc<ReplicaSet>>, number: fn(&ReplicaSet) -> i32) -> i32 {
    sets.into_iter().map(|set| number(set)).sum()
}

/// How far a rolling update may go above and below the wanted number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Most pods above the wanted number.
    pub surge: i32,
    /// Most pods below the wanted number that may be unavailable.
    pub unavailable: i32,
}

/// The bounds of the Deployment's strategy, percentages resolved: surge rounds up, unavailable rounds down, and when both
/// come to nothing one pod may be unavailable, or nothing would ever move.
pub(crate) fn bounds(deployment: &Deployment) -> Bounds {
    let replicas = wanted(deployment);
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return Bounds {
            surge: 0,
            unavailable: 0,
        };
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), replicas, true);
    let unavailable = resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), replicas, false);
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    Bounds {
        surge,
        unavailable: unavailable.min(replicas),
    }
}

fn resolve(value: Option<&IntOrString>, total: i32, up: bool) -> i32 {
    crate::percent::resolve(value.unwrap_or(&IntOrString::String("25%".into())), total, up).unwrap_or(0)
}
