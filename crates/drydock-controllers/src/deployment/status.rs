//! The Deployment's status.

use k8s_openapi::api::apps::v1::DeploymentStatus;

use super::{Action, Seen, Sets, conditions, numbers};

/// Counts and availability, other conditions as they were.
fn counted(seen: &Seen<'_>, sets: &Sets) -> DeploymentStatus {
    let before = seen.deployment.status.clone().unwrap_or_default();
    let available = numbers::sum(sets.all(), numbers::available);
    let some = |number: i32| (number != 0).then_some(number);
    let mut status = DeploymentStatus {
        observed_generation: seen.deployment.metadata.generation,
        replicas: some(numbers::sum(sets.all(), numbers::actual)),
        updated_replicas: some(numbers::sum(&sets.new, numbers::actual)),
        ready_replicas: some(numbers::sum(sets.all(), numbers::ready)),
        available_replicas: some(available),
        unavailable_replicas: some((numbers::sum(sets.all(), numbers::desired) - available).max(0)),
        terminating_replicas: None,
        collision_count: before.collision_count,
        conditions: before.conditions,
    };
    conditions::available(seen, &mut status);
    status
}

fn write_if_changed(seen: &Seen<'_>, status: DeploymentStatus) -> Option<Action> {
    (seen.deployment.status.as_ref() != Some(&status)).then(|| Action::Status(Box::new(status)))
}

/// The status alone, without judging progress.
pub(crate) fn plain(seen: &Seen<'_>, sets: &Sets) -> Vec<Action> {
    write_if_changed(seen, counted(seen, sets)).into_iter().collect()
}

/// The status of a rollout, and when to look at it again.
pub(crate) fn of_rollout(seen: &Seen<'_>, sets: &Sets) -> Vec<Action> {
    let mut status = counted(seen, sets);
    conditions::progressing(seen, sets, &mut status);
    conditions::replica_failure(sets, &mut status);
    let again = conditions::check_again(seen, &status);
    write_if_changed(seen, status).into_iter().chain(again).collect()
}
