//! Volumes and claims are not removed while in use: finalizers from the start.

use super::creates;
use crate::hooks::AdmissionRequest;
use serde_json::{Value, json};

pub(super) fn finalizers(request: &mut AdmissionRequest<'_>) {
    let finalizer = if creates(request, "", "persistentvolumeclaims") {
        "kubernetes.io/pvc-protection"
    } else if creates(request, "", "persistentvolumes") {
        "kubernetes.io/pv-protection"
    } else {
        return;
    };
    let Some(object) = request.object.as_mut() else { return };
    match &mut object["metadata"]["finalizers"] {
        Value::Array(list) if list.iter().any(|f| f == finalizer) => {}
        Value::Array(list) => list.push(json!(finalizer)),
        other => *other = json!([finalizer]),
    }
}
