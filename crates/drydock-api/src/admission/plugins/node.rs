//! A new node takes no pods until its status says it is ready.

use super::creates;
use crate::hooks::AdmissionRequest;
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) fn taint(request: &mut AdmissionRequest<'_>) {
    if !creates(request, "", "nodes") {
        return;
    }
    let Some(object) = request.object.as_mut() else { return };
    let taints = &mut object["spec"]["taints"];
    let list = match taints {
        Value::Array(list) => list,
        other => {
            *other = json!([]);
            let Value::Array(list) = other else { return };
            list
        }
    };
    let present = list
        .iter()
        .any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule");
    if !present {
        list.push(json!({ "key": NOT_READY, "effect": "NoSchedule" }));
    }
}
