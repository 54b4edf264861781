//! Scaling, apart from a rollout: replicas are spread over the ReplicaSets that have some.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::{Action, Seen, Sets, numbers, revision, status};
use crate::meta::{self, age_order};

/// Whether the Deployment's replicas were changed since its ReplicaSets were last written.
pub(crate) fn is_scaling(deployment: &Deployment, sets: &Sets) -> bool {
    let wanted = numbers::wanted(deployment);
    sets.all().filter(|set| numbers::desired(set) > 0).any(|set| {
        let known = revision::annotation(&set.metadata, revision::DESIRED).and_then(|text| text.parse().ok());
        known.is_some_and(|known: i32| known != wanted)
    })
}

/// Writes a new number into a ReplicaSet (and the annotations that go with it), and tells about it.
pub(crate) fn resize(deployment: &Deployment, set: &ReplicaSet, replicas: i32) -> Vec<Action> {
    let wanted = numbers::wanted(deployment);
    let before = numbers::desired(set);
    let mut resized = set.clone();
    let spec = resized.spec.get_or_insert_default();
    spec.replicas = Some(replicas);
    let max = wanted + numbers::bounds(deployment).surge;
    revision::set_replica_annotations(&mut resized.metadata, wanted, max);
    if resized == *set {
        return Vec::new();
    }
    let mut actions = vec![Action::Update(Box::new(resized))];
    if before != replicas {
        let direction = if before < replicas { "up" } else { "down" };
        let name = meta::name(&set.metadata);
        actions.push(Action::Scaled(format!(
            "Scaled {direction} replica set {name} from {before} to {replicas}"
        )));
    }
    actions
}

/// One step of a Deployment that is paused or was scaled: no new ReplicaSet, the same proportions.
pub(crate) fn step(seen: &Seen<'_>, sets: &Sets) -> Vec<Action> {
    let mut actions = spread(seen.deployment, sets);
    if seen.deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true) {
        actions.extend(revision::surplus(seen.deployment, sets).into_iter().map(Action::Delete));
    }
    actions.extend(status::plain(seen, sets));
    actions
}

fn is_saturated(deployment: &Deployment, set: Option<&Arc<ReplicaSet>>) -> bool {
    let wanted = numbers::wanted(deployment);
    set.is_some_and(|set| {
        let known = revision::annotation(&set.metadata, revision::DESIRED).and_then(|text| text.parse().ok());
        numbers::desired(set) == wanted && known == Some(wanted) && numbers::available(set) == wanted
    })
}

fn spread(deployment: &Deployment, sets: &Sets) -> Vec<Action> {
    let wanted = numbers::wanted(deployment);
    let active: Vec<_> = sets.all().filter(|set| numbers::desired(set) > 0).collect();
    let single = match active.as_slice() {
        [] => sets
            .new
            .as_ref()
            .or_else(|| sets.old.iter().max_by_key(|set| revision::of(set))),
        [only] => Some(*only),
        _ => None,
    };
    if active.len() <= 1 {
        return single.map(|set| resize(deployment, set, wanted)).unwrap_or_default();
    }
    if is_saturated(deployment, sets.new.as_ref()) {
        return sets
            .old
            .iter()
            .filter(|set| numbers::desired(set) > 0)
            .flat_map(|s| resize(deployment, s, 0))
            .collect();
    }
    proportional(deployment, active)
}

/// In the middle of a rollout: what is added or taken is shared out by size, so that a bad new template does not get all
/// of it.
fn proportional(deployment: &Deployment, mut active: Vec<&Arc<ReplicaSet>>) -> Vec<Action> {
    let wanted = numbers::wanted(deployment);
    let allowed = if wanted > 0 {
        wanted + numbers::bounds(deployment).surge
    } else {
        0
    };
    let total: i32 = active.iter().map(|set| numbers::desired(set)).sum();
    let to_share = allowed - total;
    // Growing: the largest first, the newest of equals. Shrinking: the largest first, the oldest of equals.
    active.sort_by(|a, b| {
        let by_size = numbers::desired(b).cmp(&numbers::desired(a));
        let by_age = age_order(&a.metadata).cmp(&age_order(&b.metadata));
        by_size.then(if to_share > 0 { by_age.reverse() } else { by_age })
    });
    let mut sizes: Vec<i32> = active.iter().map(|set| numbers::desired(set)).collect();
    let mut shared = 0;
    for (set, size) in active.iter().zip(&mut sizes) {
        let part = share(deployment, set, to_share, shared, total);
        *size += part;
        shared += part;
    }
    // What rounding left over goes to the first.
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_share - shared).max(0);
    }
    active
        .into_iter()
        .zip(sizes)
        .flat_map(|(set, size)| resize(deployment, set, size))
        .collect()
}

fn share(deployment: &Deployment, set: &ReplicaSet, to_share: i32, shared: i32, total: i32) -> i32 {
    let size = numbers::desired(set);
    let left = to_share - shared;
    if left == 0 || size == 0 {
        return 0;
    }
    let surge = numbers::bounds(deployment).surge;
    // The size that the set would have in the scaled Deployment, in proportion to what it was scaled for before.
    let before = revision::annotation(&set.metadata, revision::MAX)
        .and_then(|t| t.parse().ok())
        .filter(|m| *m > 0);
    let before = f64::from(before.unwrap_or(total.max(1)));
    let scaled = f64::from(size) * f64::from(numbers::wanted(deployment) + surge) / before;
    #[allow(clippy::cast_possible_truncation)] // replica counts are far below 2^31
    let part = scaled.round() as i32 - size;
    if to_share > 0 {
        part.clamp(0, left)
    } else {
        part.clamp(left, 0)
    }
}
