//! DaemonSet: one pod on every node that it fits.

mod controller;
mod pod;
#[cfg(test)]
mod tests;

pub use controller::start;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;

use crate::{meta, percent, pods};

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make a pod for the node of this name.
    Create(String),
    /// Delete this pod.
    Delete(Arc<Pod>),
}

/// Pods by the name of their node.
type ByNode<'a> = BTreeMap<&'a str, Vec<&'a Arc<Pod>>>;

/// What a decision is made from.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The DaemonSet.
    pub set: &'a DaemonSet,
    /// All its pods.
    pub owned: &'a [Arc<Pod>],
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// Revision of the current template.
    pub update: &'a str,
    /// Now.
    pub now: Timestamp,
}

impl Seen<'_> {
    /// The nodes that should have a pod, with the pods they have, and the pods that are elsewhere.
    fn by_node(&self) -> (ByNode<'_>, Vec<&Arc<Pod>>) {
        let wanted = self.nodes.iter().filter(|node| pod::fits(self.set, node));
        let mut nodes: ByNode<'_> = wanted.map(|node| (meta::name(&node.metadata), Vec::new())).collect();
        let mut misplaced = Vec::new();
        for pod in self.owned {
            match pod::node_of(pod).and_then(|node| nodes.get_mut(node)) {
                Some(pods) => pods.push(pod),
                None => misplaced.push(pod),
            }
        }
        (nodes, misplaced)
    }

    fn min_ready(&self) -> i32 {
        self.set
            .spec
            .as_ref()
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_active(pod) && pods::is_available(pod, self.min_ready(), self.now)
    }

    /// How many nodes may be without an available pod during an update; `None` when pods are only replaced by hand.
    fn max_unavailable(&self, nodes: usize) -> Option<usize> {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return None;
        }
        let value = strategy.and_then(|s| s.rolling_update.as_ref()?.max_unavailable.as_ref());
        let total = i32::try_from(nodes).unwrap_or(i32::MAX);
        let number = value
            .and_then(|value| percent::resolve(value, total, true))
            .unwrap_or(1);
        Some(usize::try_from(number).unwrap_or(1).max(1))
    }
}

/// One step.
#[must_use]
pub fn decide(seen: &Seen<'_>) -> Vec<Action> {
    if meta::is_terminating(&seen.set.metadata) {
        return Vec::new();
    }
    let (nodes, misplaced) = seen.by_node();
    let mut actions = Vec::new();
    let mut outdated = Vec::new();
    let mut unavailable = 0;
    for (node, there) in &nodes {
        let (mut active, other): (Vec<_>, Vec<_>) = there.iter().copied().partition(|pod| pods::is_active(pod));
        // Ended pods are taken away; those that are being deleted are waited for.
        actions.extend(
            other
                .iter()
                .filter(|p| pods::is_finished(p))
                .map(|pod| Action::Delete((*pod).clone())),
        );
        active.sort_by(|a, b| pods::deletion_order(b, a));
        let mut active = active.into_iter();
        match active.next() {
            None => {
                unavailable += 1;
                if other.is_empty() {
                    actions.push(Action::Create((*node).to_owned()));
                }
            }
            Some(pod) => {
                unavailable += usize::from(!seen.is_available(pod));
                if pod::revision(pod) != Some(seen.update) {
                    outdated.push(pod);
                }
            }
        }
        actions.extend(active.map(|pod| Action::Delete(pod.clone())));
    }
    actions.extend(
        misplaced
            .into_iter()
            .filter(|pod| !meta::is_terminating(&pod.metadata))
            .cloned()
            .map(Action::Delete),
    );
    if let Some(most) = seen.max_unavailable(nodes.len()) {
        // Pods that serve nobody anyway can go at once.
        let (down, up): (Vec<_>, Vec<_>) = outdated.into_iter().partition(|pod| !seen.is_available(pod));
        let room = most.saturating_sub(unavailable);
        actions.extend(
            down.into_iter()
                .chain(up.into_iter().take(room))
                .cloned()
                .map(Action::Delete),
        );
    }
    actions.retain(|action| !matches!(action, Action::Delete(pod) if meta::is_terminating(&pod.metadata)));
    actions
}

/// The status, or `None` if it says so already.
#[must_use]
pub fn status(seen: &Seen<'_>) -> Option<DaemonSetStatus> {
    let (nodes, misplaced) = seen.by_node();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        let with = nodes
            .values()
            .filter(|there| there.iter().any(|pod| pods::is_active(pod) && test(pod)));
        i32::try_from(with.count()).unwrap_or(i32::MAX)
    };
    let desired = i32::try_from(nodes.len()).unwrap_or(i32::MAX);
    let some = |number: i32| (number != 0).then_some(number);
    let available = count(&|pod| seen.is_available(pod));
    let before = seen.set.status.as_ref();
    let status = DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: count(&|_| true),
        number_ready: count(&pods::is_ready),
        number_available: some(available),
        number_unavailable: some(desired - available),
        number_misscheduled: i32::try_from(misplaced.len()).unwrap_or(i32::MAX),
        updated_number_scheduled: some(count(&|pod| pod::revision(pod) == Some(seen.update))),
        observed_generation: seen.set.metadata.generation,
        collision_count: before.and_then(|status| status.collision_count),
        conditions: before.and_then(|status| status.conditions.clone()),
    };
    (before != Some(&status)).then_some(status)
}
