//! ReplicaSet: as many pods as it says.

mod controller;
mod status;
#[cfg(test)]
mod tests;

pub use controller::start;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use crate::{meta, pods};

/// Most pods made or deleted in one step.
const BURST: usize = 500;

/// What is to be done about the number of pods.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make this many pods more.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
    /// The number is right.
    Nothing,
}

/// Compares wanted and actual pods. `owned`: all pods of the ReplicaSet, ended ones included.
#[must_use]
pub fn decide(set: &ReplicaSet, owned: &[Arc<Pod>]) -> Action {
    if meta::is_terminating(&set.metadata) {
        return Action::Nothing;
    }
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let wanted = usize::try_from(wanted).unwrap_or(0);
    let mut active: Vec<_> = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    match active.len() {
        actual if actual < wanted => Action::Create((wanted - actual).min(BURST)),
        actual if actual > wanted => {
            active.sort_by(|a, b| pods::deletion_order(a, b));
            active.truncate((actual - wanted).min(BURST));
            Action::Delete(active)
        }
        _ => Action::Nothing,
    }
}
