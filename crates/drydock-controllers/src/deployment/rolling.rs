//! The two strategies: RollingUpdate and Recreate.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::{Action, Seen, Sets, conditions, numbers, revision, scale, status};
use crate::meta::{age_order, name};

/// Replicas that the new ReplicaSet may have now: up to the wanted number, within the surge.
fn new_size(seen: &Seen<'_>, sets: &Sets) -> i32 {
    let wanted = numbers::wanted(seen.deployment);
    let current = numbers::sum(&sets.new, numbers::desired);
    let total = numbers::sum(sets.all(), numbers::desired);
    let room = wanted + numbers::bounds(seen.deployment).surge - total;
    if room <= 0 {
        return current;
    }
    current + room.min(wanted - current)
}

/// Makes the new ReplicaSet, or brings its annotations and the Deployment's revision up to date. `None`: nothing to do.
fn prepare(seen: &Seen<'_>, sets: &Sets, size: i32) -> Option<Vec<Action>> {
    let deployment = seen.deployment;
    let Some(new) = &sets.new else {
        let set = revision::make(deployment, sets, size);
        let mut actions = Vec::new();
        let created = name(&set.metadata).to_owned();
        let number = revision::annotation(&set.metadata, revision::REVISION)
            .unwrap_or_default()
            .to_owned();
        actions.push(Action::Create(Box::new(set)));
        if size > 0 {
            actions.push(Action::Scaled(format!(
                "Scaled up replica set {created} from 0 to {size}"
            )));
        }
        let mut written = deployment.status.clone().unwrap_or_default();
        let message = format!("Created new replica set \"{created}\"");
        conditions::set(
            &mut written,
            conditions::condition("Progressing", "True", "NewReplicaSetCreated", message, seen.now),
        );
        actions.extend(revision::of_deployment(deployment, &number).map(|d| Action::Annotate(Box::new(d))));
        actions.push(Action::Status(Box::new(written)));
        return Some(actions);
    };
    if let Some(set) = revision::annotated(deployment, sets) {
        return Some(vec![Action::Update(Box::new(set))]);
    }
    let number = revision::annotation(&new.metadata, revision::REVISION).unwrap_or_default();
    let mut actions: Vec<_> = revision::of_deployment(deployment, number)
        .map(|d| Action::Annotate(Box::new(d)))
        .into_iter()
        .collect();
    let mut written = deployment.status.clone().unwrap_or_default();
    if conditions::find(&written, "Progressing").is_none()
        && deployment
            .spec
            .as_ref()
            .is_some_and(|spec| spec.progress_deadline_seconds.is_some())
    {
        let message = format!("Found new replica set \"{}\"", name(&new.metadata));
        conditions::set(
            &mut written,
            conditions::condition("Progressing", "True", "FoundNewReplicaSet", message, seen.now),
        );
        actions.push(Action::Status(Box::new(written)));
    }
    (!actions.is_empty()).then_some(actions)
}

fn with_status(mut actions: Vec<Action>, seen: &Seen<'_>, sets: &Sets) -> Vec<Action> {
    actions.extend(status::of_rollout(seen, sets));
    actions
}

fn finish(seen: &Seen<'_>, sets: &Sets) -> Vec<Action> {
    let done = seen
        .deployment
        .status
        .as_ref()
        .is_some_and(|s| conditions::is_complete(seen.deployment, s));
    let surplus = if done {
        revision::surplus(seen.deployment, sets)
    } else {
        Vec::new()
    };
    with_status(surplus.into_iter().map(Action::Delete).collect(), seen, sets)
}

/// One step of a rolling update: first up, then down, never beyond the bounds.
pub(crate) fn roll(seen: &Seen<'_>, sets: &Sets) -> Vec<Action> {
    if let Some(actions) = prepare(seen, sets, new_size(seen, sets)) {
        return actions;
    }
    let Some(new) = &sets.new else { return Vec::new() };
    let wanted = numbers::wanted(seen.deployment);
    let size = if numbers::desired(new) > wanted {
        wanted
    } else {
        new_size(seen, sets)
    };
    if size != numbers::desired(new) {
        return with_status(scale::resize(seen.deployment, new, size), seen, sets);
    }
    let down = shrink_old(seen, sets, new);
    if !down.is_empty() {
        return with_status(down, seen, sets);
    }
    finish(seen, sets)
}

/// Takes pods from old ReplicaSets: unhealthy ones first, then as many as availability allows, oldest set first.
fn shrink_old(seen: &Seen<'_>, sets: &Sets, new: &ReplicaSet) -> Vec<Action> {
    let least = numbers::wanted(seen.deployment) - numbers::bounds(seen.deployment).unavailable;
    let total = numbers::sum(sets.all(), numbers::desired);
    let new_unavailable = numbers::desired(new) - numbers::lasting(new);
    let most_down = total - least - new_unavailable;
    if numbers::sum(&sets.old, numbers::desired) == 0 || most_down <= 0 {
        return Vec::new();
    }
    let mut old: Vec<&Arc<ReplicaSet>> = sets.old.iter().collect();
    old.sort_by(|a, b| age_order(&a.metadata).cmp(&age_order(&b.metadata)));
    let mut sizes: Vec<i32> = old.iter().map(|set| numbers::desired(set)).collect();

    let mut unhealthy_left = most_down;
    for (set, size) in old.iter().zip(&mut sizes) {
        let unhealthy = (*size - numbers::lasting(set)).clamp(0, unhealthy_left);
        *size -= unhealthy;
        unhealthy_left -= unhealthy;
    }
    let mut spare = numbers::sum(sets.all(), numbers::lasting) - least;
    for size in &mut sizes {
        let down = (*size).min(spare.max(0));
        *size -= down;
        spare -= down;
    }
    old.into_iter()
        .zip(sizes)
        .flat_map(|(set, size)| match size == numbers::desired(set) {
            true => Vec::new(),
            false => scale::resize(seen.deployment, set, size),
        })
        .collect()
}

/// One step of Recreate: old pods go, and only when the last has ended the new ones come.
pub(crate) fn recreate(seen: &Seen<'_>, sets: &Sets) -> Vec<Action> {
    let active: Vec<_> = sets.old.iter().filter(|set| numbers::desired(set) > 0).collect();
    if !active.is_empty() {
        let down = active
            .into_iter()
            .flat_map(|set| scale::resize(seen.deployment, set, 0))
            .collect();
        return with_status(down, seen, sets);
    }
    let still_running = sets
        .old
        .iter()
        .any(|set| set.metadata.uid.as_ref().is_some_and(|uid| seen.running.contains(uid)));
    if still_running {
        return status::of_rollout(seen, sets);
    }
    let wanted = numbers::wanted(seen.deployment);
    if let Some(actions) = prepare(seen, sets, wanted) {
        return actions;
    }
    if let Some(new) = &sets.new
        && numbers::desired(new) != wanted
    {
        return with_status(scale::resize(seen.deployment, new, wanted), seen, sets);
    }
    finish(seen, sets)
}
