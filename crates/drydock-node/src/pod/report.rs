//! Writing a pod's status to the API server.

use super::key;
use crate::agent::Node;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use std::time::Duration;

/// How long one write may take before the worker goes on and tries again later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Remembers what was written, so that only changes are.
#[derive(Debug, Default)]
pub(super) struct Report {
    written: Option<Value>,
}

impl Report {
    /// Writes the status if it differs from what was written last. `false`: try again.
    pub(super) async fn write(&mut self, node: &Node, pod: &Pod, status: &PodStatus) -> bool {
        let Ok(mut value) = serde_json::to_value(status) else {
            return true;
        };
        // A merge patch only removes what it names.
        for field in ["reason", "message"] {
            if value.get(field).is_none() {
                value[field] = Value::Null;
            }
        }
        if self.written.as_ref() == Some(&value) {
            return true;
        }
        let (namespace, name, uid) = key(pod);
        let api: Api<Pod> = Api::namespaced(node.client.clone(), namespace);
        // The uid makes sure that a new pod of the same name does not get the old one's status.
        let patch = Patch::Merge(json!({"metadata": {"uid": uid}, "status": value}));
        let params = PatchParams {
            field_manager: Some("kubelet".into()),
            ..PatchParams::default()
        };
        match tokio::time::timeout(PATIENCE, api.patch_status(name, &params, &patch)).await {
            Ok(Ok(_)) => {}
            Ok(Err(kube::Error::Api(e))) if matches!(e.code, 404 | 409 | 422) => {
                tracing::debug!(pod = name, error = %e.message, "status refused")
            }
            Ok(Err(error)) => {
                tracing::debug!(pod = name, %error, "status not written");
                return false;
            }
            Err(_) => return false,
        }
        self.written = Some(value);
        true
    }
}

/// Tells the API server that nothing of the pod is left. `false`: try again.
pub(super) async fn delete(node: &Node, pod: &Pod) -> bool {
    let (namespace, name, uid) = key(pod);
    let api: Api<Pod> = Api::namespaced(node.client.clone(), namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(uid.into()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match tokio::time::timeout(PATIENCE, api.delete(name, &params)).await {
        Ok(Ok(_)) => true,
        Ok(Err(kube::Error::Api(e))) => matches!(e.code, 404 | 409),
        _ => false,
    }
}
