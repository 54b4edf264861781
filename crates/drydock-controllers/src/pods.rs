//! What the workload controllers ask of pods.

use std::cmp::Ordering;

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;

use crate::meta::{age_order, is_terminating};

/// `status.phase`, or empty.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// The pod has ended and will not run again.
#[must_use]
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// The pod counts as a replica: neither ended nor being deleted.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(&pod.metadata)
}

/// Status of a condition, and since when.
fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, Option<Timestamp>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((&found.status, found.last_transition_time.as_ref().map(|time| time.0)))
}

/// The pod's `Ready` condition is true.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    matches!(condition(pod, "Ready"), Some(("True", _)))
}

/// Ready for at least `min_ready_seconds`.
#[must_use]
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    match condition(pod, "Ready") {
        Some(("True", _)) if min_ready_seconds <= 0 => true,
        Some(("True", Some(since))) => now.as_second() - since.as_second() >= i64::from(min_ready_seconds),
        _ => false,
    }
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready").and_then(|(_, since)| since)
}

fn restarts(pod: &Pod) -> i32 {
    pod.status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten())
        .map(|c| c.restart_count)
        .max()
        .unwrap_or(0)
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotation = "controller.kubernetes.io/pod-deletion-cost";
    pod.metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(annotation))
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

/// Order in which surplus pods go: the least useful first (not placed, not running, not ready, cheap, young).
#[must_use]
pub fn deletion_order(a: &Pod, b: &Pod) -> Ordering {
    let placed = |pod: &Pod| {
        pod.spec
            .as_ref()
            .and_then(|s| s.node_name.as_deref())
            .is_some_and(|n| !n.is_empty())
    };
    let stage = |pod: &Pod| match phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    placed(a)
        .cmp(&placed(b))
        .then_with(|| stage(a).cmp(&stage(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| ready_since(b).cmp(&ready_since(a)))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| age_order(&b.metadata).cmp(&age_order(&a.metadata)))
}

/// A pod made from a template; the server completes its name when it ends in `-`.
#[must_use]
pub fn from_template(template: &PodTemplateSpec, name: &str, namespace: &str, owner: OwnerReference) -> Pod {
    let given = template.metadata.clone().unwrap_or_default();
    let (name, generate_name) = match name.ends_with('-') {
        true => (None, Some(name.to_owned())),
        false => (Some(name.to_owned()), None),
    };
    Pod {
        metadata: ObjectMeta {
            name,
            generate_name,
            namespace: Some(namespace.to_owned()),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One pod per word: `name[:phase[:ready]]`.
    fn pod(text: &str) -> Pod {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let phase = parts.next().unwrap_or_default();
        let ready = if parts.next().is_some() { "True" } else { "False" };
        let node = (!phase.is_empty()).then_some("node");
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn check_order(pods: &str, expected: &str) {
        let mut pods: Vec<_> = pods.split(' ').map(pod).collect();
        pods.sort_by(deletion_order);
        let names: Vec<_> = pods.iter().filter_map(|p| p.metadata.name.as_deref()).collect();
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn least_useful_pods_go_first() {
        check_order(
            "ready:Running:r running:Running pending:Pending unplaced",
            "unplaced pending running ready",
        );
        check_order("a:Running:r b:Running:r", "b a");
    }

    #[test]
    fn availability_needs_time() {
        let mut pod = pod("a:Running:r");
        let since = Timestamp::from_second(1000).unwrap();
        for condition in pod.status.iter_mut().flat_map(|s| s.conditions.iter_mut().flatten()) {
            condition.last_transition_time = Some(crate::meta::time(since));
        }
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(is_available(&pod, 0, at(1000)));
        assert!(!is_available(&pod, 10, at(1009)));
        assert!(is_available(&pod, 10, at(1010)));
    }
}
