//! Scheduler: binds a pod to the node that fits and has the fewest pods, and says why when none does.

mod controller;
pub mod fit;
#[cfg(test)]
mod tests;

pub use controller::start;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::{meta, pods};

/// Name under which pods ask for this scheduler.
const NAME: &str = "default-scheduler";

/// What is to be done with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Not ours, placed already, or at its end.
    Nothing,
    /// Bind to the node of this name.
    Bind(String),
    /// No node takes it; the message says why.
    Unschedulable(String),
}

/// Finds a node for a pod. `nodes` in order of their names; `placed` counts the pods of each.
#[must_use]
pub fn decide(pod: &Pod, nodes: &[Arc<Node>], placed: &BTreeMap<String, usize>) -> Decision {
    let Some(spec) = &pod.spec else {
        return Decision::Nothing;
    };
    let bound = spec.node_name.as_deref().is_some_and(|name| !name.is_empty());
    let ours = spec
        .scheduler_name
        .as_deref()
        .is_none_or(|name| name.is_empty() || name == NAME);
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    if bound || !ours || gated || !pods::is_active(pod) {
        return Decision::Nothing;
    }
    let mut refusals: BTreeMap<fit::Refusal, usize> = BTreeMap::new();
    let mut fitting = Vec::new();
    for node in nodes {
        match fit::fits(pod, node) {
            Ok(()) => fitting.push(meta::name(&node.metadata)),
            Err(refusal) => *refusals.entry(refusal).or_default() += 1,
        }
    }
    if let Some(node) = fitting
        .into_iter()
        .min_by_key(|name| placed.get(*name).copied().unwrap_or_default())
    {
        return Decision::Bind(node.to_owned());
    }
    if nodes.is_empty() {
        return Decision::Unschedulable("no nodes available to schedule pods".into());
    }
    let reasons: Vec<_> = refusals
        .iter()
        .map(|(refusal, count)| format!("{count} {}", refusal.words()))
        .collect();
    let total = nodes.len();
    // The end is what the real scheduler adds when making room would not help, which it never does here.
    Decision::Unschedulable(format!(
        "0/{total} nodes are available: {}. no new claims to deallocate, preemption: 0/{total} nodes are available: \
         {total} Preemption is not helpful for scheduling.",
        reasons.join(", ")
    ))
}
