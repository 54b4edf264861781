//! Objects live in namespaces that exist and are not going away; a few namespaces stay.

use crate::{
    Core,
    error::{ApiError, Subject},
    hooks::{AdmissionRequest, Operation},
    objects::{Objects, text},
};
use serde_json::json;

const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn lifecycle(core: &Core, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    let resource = request.resource;
    if resource.group.is_empty() && resource.plural == "namespaces" {
        if request.operation == Operation::Delete && PROTECTED.contains(&request.name) {
            let subject = Subject {
                group: "",
                resource: "namespaces",
                name: request.name,
            };
            return Err(ApiError::forbidden(subject, "this namespace may not be deleted"));
        }
        return Ok(());
    }
    if request.namespace.is_empty() || !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let subject = Subject {
        group: "",
        resource: "namespaces",
        name: request.namespace,
    };
    let namespace = core
        .get("", "namespaces", "", request.namespace)
        .ok_or_else(|| ApiError::not_found(subject))?;
    if request.operation == Operation::Create && text(&namespace, &["status", "phase"]) == "Terminating" {
        let cause = format!(
            "unable to create new content in namespace {} because it is being terminated",
            request.namespace
        );
        let mut error = crate::admission::webhooks::forbidden(request, &cause);
        if let Some(details) = &mut error.details {
            details.insert(
                "causes".into(),
                json!([{
                    "reason": "NamespaceTerminating",
                    "message": format!("namespace {} is being terminated", request.namespace),
                    "field": "metadata.namespace",
                }]),
            );
        }
        return Err(error);
    }
    Ok(())
}
