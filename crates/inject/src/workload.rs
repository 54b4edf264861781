//! Which workload a pod belongs to (revisions.md §5.5, owner resolution).

use serde_json::Value;

/// Type and name of the workload that made a pod.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Workload {
    /// Kind of the controller, for example `Deployment`; empty if unknown.
    pub kind: String,
    /// API version of the controller.
    pub api_version: String,
    /// Name of the controller, or of the pod itself.
    pub name: String,
    /// Namespace of the pod.
    pub namespace: String,
}

impl Workload {
    /// Resolves a pod's controller: ReplicaSet → Deployment, Job → CronJob, and their relatives.
    pub fn of(pod: &Value, namespace: &str) -> Self {
        let metadata = &pod["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut workload = Self {
            kind: "Pod".to_owned(),
            api_version: "v1".to_owned(),
            name: text(&metadata["name"]),
            namespace: namespace.to_owned(),
        };
        let generate_name = metadata["generateName"].as_str().unwrap_or_default();
        if generate_name.is_empty() {
            return workload;
        }
        let owners = metadata["ownerReferences"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let Some(controller) = owners.iter().find(|owner| owner["controller"].as_bool() == Some(true)) else {
            if workload.name.is_empty() {
                workload.name = generate_name.trim_end_matches('-').to_owned();
            }
            return workload;
        };
        workload.kind = text(&controller["kind"]);
        workload.api_version = text(&controller["apiVersion"]);
        workload.name = text(&controller["name"]);
        let label = |name: &str| metadata["labels"][name].as_str().filter(|value| !value.is_empty());
        match workload.kind.as_str() {
            "ReplicaSet" => {
                // Who named it after the hash of its pods: a Deployment, or a Rollout of Argo, which has its own label.
                let above = |hash: &str| {
                    let hash = label(hash)?;
                    Some(workload.name.strip_suffix(hash)?.strip_suffix('-')?.to_owned())
                };
                if let Some(name) = above("pod-template-hash") {
                    (workload.name, workload.kind) = (name, "Deployment".to_owned());
                } else if let Some(name) = above("rollouts-pod-template-hash") {
                    (workload.name, workload.kind) = (name, "Rollout".to_owned());
                    workload.api_version = "v1alpha1".to_owned();
                }
            }
            "ReplicationController" => {
                if let Some(name) = label("deploymentconfig") {
                    workload.kind = "DeploymentConfig".to_owned();
                    workload.name = name.to_owned();
                }
            }
            "Job" => {
                if let Some((name, stamp)) = workload.name.rsplit_once('-') {
                    // A CronJob names its jobs by the minute: 8 to 10 digits.
                    if (8..=10).contains(&stamp.len()) && stamp.bytes().all(|b| b.is_ascii_digit()) {
                        workload.name = name.to_owned();
                        workload.kind = "CronJob".to_owned();
                        workload.api_version = "batch/v1".to_owned();
                    }
                }
            }
            _ => {}
        }
        workload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(kind: &str, name: &str, labels: Value, expected: (&str, &str)) {
        let pod = json!({"metadata": {"generateName": format!("{name}-"), "labels": labels,
            "ownerReferences": [{"kind": kind, "apiVersion": "x/v1", "name": name, "controller": true}]}});
        let workload = Workload::of(&pod, "app");
        assert_eq!((workload.kind.as_str(), workload.name.as_str()), expected);
    }

    #[test]
    fn controllers_are_resolved_one_step_up() {
        check(
            "ReplicaSet",
            "web-7cdd8dccb9",
            json!({"pod-template-hash": "7cdd8dccb9"}),
            ("Deployment", "web"),
        );
        check("ReplicaSet", "web-abc", json!({}), ("ReplicaSet", "web-abc"));
        check(
            "ReplicaSet",
            "web-7cdd8dccb9",
            json!({"rollouts-pod-template-hash": "7cdd8dccb9"}),
            ("Rollout", "web"),
        );
        check(
            "ReplicationController",
            "web-3",
            json!({"deploymentconfig": "web"}),
            ("DeploymentConfig", "web"),
        );
        check("Job", "backup-29012345", json!({}), ("CronJob", "backup"));
        check("Job", "import", json!({}), ("Job", "import"));
        check("StatefulSet", "db", json!({}), ("StatefulSet", "db"));
    }

    #[test]
    fn a_bare_pod_is_its_own_workload() {
        assert_eq!(Workload::of(&json!({"metadata": {"name": "one"}}), "app").name, "one");
    }
}
