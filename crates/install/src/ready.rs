//! Is an object ready, and if not, why? Pure; [`crate::apply`] asks until the answer is yes.

use serde_json::Value;

use crate::object::Object;

/// Why an object is not ready yet, or nothing. Kinds without a notion of readiness always are.
pub fn waiting_for(object: &Object) -> Option<String> {
    match object.kind() {
        "CustomResourceDefinition" => (!condition(object, "Established")).then(|| "not established".to_owned()),
        "Namespace" => (object.text("/status/phase") != "Active").then(|| "not active".to_owned()),
        "Deployment" => deployment(object),
        _ => None,
    }
}

fn condition(object: &Object, name: &str) -> bool {
    let conditions = object.0.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == name && c["status"] == "True")
}

/// As `kubectl rollout status`: observed, all replicas new, none old, all available.
fn deployment(object: &Object) -> Option<String> {
    let number = |pointer: &str| object.0.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let wanted = object.0.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Some("waiting for the rollout to start".to_owned());
    }
    let (updated, all, available) = (
        number("/status/updatedReplicas"),
        number("/status/replicas"),
        number("/status/availableReplicas"),
    );
    if updated < wanted {
        return Some(format!("{updated} of {wanted} replicas are new"));
    }
    if all > updated {
        return Some(format!("{} old replicas are still there", all - updated));
    }
    if available < wanted {
        return Some(format!("{available} of {wanted} replicas are available"));
    }
    None
}

/// What keeps a pod from being ready, if it says so: `ImagePullBackOff: …`, `CrashLoopBackOff: …`, `Unschedulable: …`.
pub fn pod_problem(pod: &Object) -> Option<String> {
    for list in ["initContainerStatuses", "containerStatuses"] {
        let statuses = pod.0.pointer(&format!("/status/{list}")).and_then(Value::as_array);
        for status in statuses.into_iter().flatten() {
            let Some(waiting) = status.pointer("/state/waiting") else {
                continue;
            };
            let reason = waiting["reason"].as_str().unwrap_or_default();
            if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
                continue;
            }
            let message = waiting["message"].as_str().unwrap_or_default();
            return Some(if message.is_empty() {
                reason.to_owned()
            } else {
                format!("{reason}: {message}")
            });
        }
    }
    let conditions = pod.0.pointer("/status/conditions").and_then(Value::as_array);
    let unscheduled = conditions
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "PodScheduled" && c["status"] == "False")?;
    Some(format!(
        "Unschedulable: {}",
        unscheduled["message"].as_str().unwrap_or_default()
    ))
}

/// Is a pod ready to serve?
pub fn is_pod_ready(pod: &Object) -> bool {
    condition(pod, "Ready") && pod.0.pointer("/metadata/deletionTimestamp").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, status: Value, expected: Option<&str>) {
        let object =
            Object(json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": spec, "status": status}));
        assert_eq!(waiting_for(&object).as_deref(), expected);
    }

    #[test]
    fn a_deployment_is_ready_when_its_rollout_is_complete() {
        let status = |observed: i64, replicas: i64, updated: i64, available: i64| json!({"observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available});
        check(json!({}), json!({}), Some("waiting for the rollout to start"));
        check(json!({}), status(2, 1, 0, 1), Some("0 of 1 replicas are new"));
        check(json!({}), status(2, 2, 1, 2), Some("1 old replicas are still there"));
        check(
            json!({"replicas": 2}),
            status(2, 2, 2, 1),
            Some("1 of 2 replicas are available"),
        );
        check(json!({}), status(2, 1, 1, 1), None);
    }

    #[test]
    fn a_pod_says_what_is_wrong() {
        let pod = Object(json!({"status": {"containerStatuses": [
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}}));
        assert_eq!(pod_problem(&pod).as_deref(), Some("ImagePullBackOff: no such image"));
    }
}
