//! The Deployment's conditions Available, Progressing and ReplicaFailure.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::jiff::Timestamp;

use super::{Action, Seen, Sets, numbers};
use crate::meta::{name, time};

/// A deadline of this many seconds means none.
const NO_DEADLINE: i32 = i32::MAX;

pub(crate) fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind)
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}

/// A condition that holds since now.
pub(crate) fn condition(kind: &str, holds: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: holds.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    }
}

/// Sets a condition. Same status and reason: nothing changes. Same status: the time of transition stays.
pub(crate) fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(current) = find(status, &new.type_) {
        if current.status == new.status && current.reason == new.reason {
            return;
        }
        if current.status == new.status {
            new.last_transition_time = current.last_transition_time.clone();
        }
    }
    remove(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

fn deadline(deployment: &Deployment) -> Option<i64> {
    let seconds = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.progress_deadline_seconds)?;
    (seconds != NO_DEADLINE).then_some(i64::from(seconds))
}

/// A Deployment that was paused or resumed says so, so that the time in between does not count as being stuck.
pub(crate) fn pause_change(seen: &Seen<'_>) -> Option<Action> {
    deadline(seen.deployment)?;
    let mut status = seen.deployment.status.clone().unwrap_or_default();
    let current = find(&status, "Progressing").and_then(|condition| condition.reason.as_deref());
    if current == Some("ProgressDeadlineExceeded") {
        return None;
    }
    let paused = seen.deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    let (reason, message) = match (paused, current == Some("DeploymentPaused")) {
        (true, false) => ("DeploymentPaused", "Deployment is paused"),
        (false, true) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return None,
    };
    set(
        &mut status,
        condition("Progressing", "Unknown", reason, message.into(), seen.now),
    );
    Some(Action::Status(Box::new(status)))
}

pub(crate) fn available(seen: &Seen<'_>, status: &mut DeploymentStatus) {
    let least = numbers::wanted(seen.deployment) - numbers::bounds(seen.deployment).unavailable;
    let new = if status.available_replicas.unwrap_or(0) >= least {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set(status, condition("Available", new.0, new.1, new.2.into(), seen.now));
}

/// Copies a ReplicaSet's failure to create pods, or takes an old one away.
pub(crate) fn replica_failure(sets: &Sets, status: &mut DeploymentStatus) {
    let failure = sets.new.iter().chain(&sets.old).find_map(|set| {
        set.status
            .as_ref()?
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "ReplicaFailure")
    });
    match failure {
        None => remove(status, "ReplicaFailure"),
        Some(failure) => set(
            status,
            DeploymentCondition {
                type_: failure.type_.clone(),
                status: failure.status.clone(),
                reason: failure.reason.clone(),
                message: failure.message.clone(),
                last_update_time: failure.last_transition_time.clone(),
                last_transition_time: failure.last_transition_time.clone(),
            },
        ),
    }
}

/// Whether the rollout has reached its end.
pub(crate) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = numbers::wanted(deployment);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let updated = |status: &DeploymentStatus| status.updated_replicas.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - updated(status);
    updated(new) > updated(old)
        || outdated(new) < outdated(old)
        || new.ready_replicas.unwrap_or(0) > old.ready_replicas.unwrap_or(0)
        || new.available_replicas.unwrap_or(0) > old.available_replicas.unwrap_or(0)
}

/// When the current Progressing condition becomes a failure. `None`: it cannot.
fn runs_out(deployment: &Deployment, condition: &DeploymentCondition) -> Option<i64> {
    if condition.reason.as_deref() == Some("NewReplicaSetAvailable") {
        return None;
    }
    Some(condition.last_update_time.as_ref()?.0.as_second() + deadline(deployment)?)
}

/// Brings the Progressing condition up to date.
pub(crate) fn progressing(seen: &Seen<'_>, sets: &Sets, status: &mut DeploymentStatus) {
    let deployment = seen.deployment;
    if deadline(deployment).is_none() {
        remove(status, "Progressing");
        return;
    }
    let current = find(status, "Progressing").cloned();
    let was_complete = status.replicas == status.updated_replicas
        && current
            .as_ref()
            .is_some_and(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"));
    if was_complete {
        return;
    }
    let what = match &sets.new {
        Some(set) => format!("ReplicaSet \"{}\"", name(&set.metadata)),
        None => format!("Deployment \"{}\"", name(&deployment.metadata)),
    };
    let old = deployment.status.clone().unwrap_or_default();
    if is_complete(deployment, status) {
        let message = format!("{what} has successfully progressed.");
        set(
            status,
            condition("Progressing", "True", "NewReplicaSetAvailable", message, seen.now),
        );
    } else if is_progressing(&old, status) {
        let mut new = condition(
            "Progressing",
            "True",
            "ReplicaSetUpdated",
            format!("{what} is progressing."),
            seen.now,
        );
        if let Some(current) = current {
            if current.status == "True" {
                new.last_transition_time = current.last_transition_time;
            }
            // Not `set`: the time of the last progress must move even when nothing else does.
            remove(status, "Progressing");
        }
        status.conditions.get_or_insert_default().push(new);
    } else if let Some(current) = current
        && current.reason.as_deref() != Some("ProgressDeadlineExceeded")
        && runs_out(deployment, &current).is_some_and(|at| at < seen.now.as_second())
    {
        let message = format!("{what} has timed out progressing.");
        set(
            status,
            condition("Progressing", "False", "ProgressDeadlineExceeded", message, seen.now),
        );
    }
}

/// When to look again because the rollout may be stuck by then.
pub(crate) fn check_again(seen: &Seen<'_>, status: &DeploymentStatus) -> Option<Action> {
    let current = find(status, "Progressing")?;
    if is_complete(seen.deployment, status) || current.reason.as_deref() == Some("ProgressDeadlineExceeded") {
        return None;
    }
    let left = runs_out(seen.deployment, current)? - seen.now.as_second();
    Some(Action::Requeue(Duration::from_secs(
        u64::try_from(left + 1).unwrap_or(1),
    )))
}
