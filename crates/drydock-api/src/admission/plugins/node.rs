//! A new node takes no pods until its status says it is ready, and nobody registers another's.

use super::creates;
use crate::{
    auth::node_scope,
    error::{ApiError, Subject},
    hooks::AdmissionRequest,
    objects::text,
};
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A node creates only itself.
pub(super) fn admit(request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    let user = &request.attributes.user;
    let (Some(object), Some(node)) = (&request.object, node_scope::node_of(&user.name)) else {
        return Ok(());
    };
    let name = text(object, &["metadata", "name"]);
    if !creates(request, "", "nodes") || !user.in_group("system:nodes") || name == node {
        return Ok(());
    }
    let subject = Subject {
        group: "",
        resource: "nodes",
        name,
    };
    let cause = format!("node {node:?} is not allowed to modify node {name:?}");
    Err(ApiError::forbidden(subject, &cause))
}

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
