//! Owner references and ages: what all workload controllers ask of an object's metadata.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;

/// The reference that makes `owner` the controller of an object.
pub fn controller_ref<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The owner that controls an object, if any.
#[must_use]
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// Whether `owner` controls the object.
pub fn is_controlled_by<K: Resource>(meta: &ObjectMeta, owner: &K) -> bool {
    controller_of(meta).is_some_and(|reference| Some(&reference.uid) == owner.meta().uid.as_ref())
}

/// Whether deletion has begun.
#[must_use]
pub fn is_terminating(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// Name, or empty.
#[must_use]
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// Namespace, or empty.
#[must_use]
pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// Creation, with the name to tell objects of one second apart.
#[must_use]
pub fn age_order(meta: &ObjectMeta) -> (Option<Timestamp>, &str) {
    (meta.creation_timestamp.as_ref().map(|time| time.0), name(meta))
}

/// How an orphan or a dependant stands to an owner that selects by labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Owned already, and selected.
    Owned,
    /// Selected and without a controller: to be adopted.
    Adopt,
    /// Owned but no longer selected: to be let go.
    Release,
    /// None of ours.
    Foreign,
}

/// Decides what `owner` does about an object that it selects or not. Nothing is adopted by or for something that is
/// being deleted.
pub fn claim<K: Resource>(owner: &K, selected: bool, meta: &ObjectMeta) -> Claim {
    let owner_ending = is_terminating(owner.meta());
    match controller_of(meta) {
        Some(_) if is_controlled_by(meta, owner) => match selected {
            true => Claim::Owned,
            false if owner_ending => Claim::Foreign,
            false => Claim::Release,
        },
        Some(_) => Claim::Foreign,
        None if selected && !owner_ending && !is_terminating(meta) => Claim::Adopt,
        None => Claim::Foreign,
    }
}

/// The API's time of an instant, in whole seconds as Kubernetes writes it.
#[must_use]
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
