//! `pods/binding`: a scheduler gives a pod its node.

use serde_json::{Value, json};

use super::{Call, Response, options, respond::encoded, update::Change};
use crate::{
    error::{ApiError, Subject},
    field::FieldError,
    hooks::Operation,
    meta,
    schema::time,
};

/// The answer of subresources that make nothing.
pub fn created_status() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 })
}

impl Call {
    /// Binds the pod of the path (or, for `bindings`, of the body) to a node.
    ///
    /// # Errors
    /// 404, 409, 422.
    pub async fn bind(&mut self) -> Result<Response, ApiError> {
        options::check_write(&self.options, "CreateOptions", false)?;
        let mut binding = self.input_of("", "v1", "Binding")?;
        meta::set(&mut binding, "namespace", self.namespace());
        let node = binding
            .pointer("/target/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let kind = binding
            .pointer("/target/kind")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut errors = Vec::new();
        if !matches!(kind, "" | "Node") {
            errors.push(FieldError::not_supported(
                "target.kind",
                &kind.into(),
                &["Node", "<empty>"],
            ));
        }
        if node.is_empty() {
            errors.push(FieldError::required("target.name", ""));
        }
        let name = meta::name(&binding).to_owned();
        if !errors.is_empty() {
            return Err(ApiError::invalid(
                Subject {
                    group: "",
                    resource: "Binding",
                    name: &name,
                },
                &errors,
            ));
        }
        if self.name().is_empty() {
            self.attributes.info.name = name;
        }
        let binding = self.mutate(Operation::Create, binding, None).await?;
        self.admit(Operation::Create, Some(&binding), None).await?;
        let annotations = binding.pointer("/metadata/annotations").cloned();
        self.rewrite(|call, old| {
            let conflict = |cause: String| {
                Err(ApiError::conflict(
                    Subject {
                        group: "",
                        resource: "pods/binding",
                        name: call.name(),
                    },
                    &cause,
                ))
            };
            if meta::is_deleting(old) {
                return conflict(format!(
                    "pod {} is being deleted, cannot be assigned to a host",
                    call.name()
                ));
            }
            let current = old
                .pointer("/spec/nodeName")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if !current.is_empty() {
                return conflict(format!("pod {} is already assigned to node {current:?}", call.name()));
            }
            if old
                .pointer("/spec/schedulingGates")
                .and_then(Value::as_array)
                .is_some_and(|gates| !gates.is_empty())
            {
                return conflict(format!("pod {} has non-empty .spec.schedulingGates", call.name()));
            }
            let mut pod = old.clone();
            pod["spec"]["nodeName"] = node.clone().into();
            if let Some(Value::Object(annotations)) = &annotations {
                let meta = meta::of(&mut pod);
                let own = meta.entry("annotations").or_insert_with(|| json!({}));
                if let Value::Object(own) = own {
                    own.extend(annotations.clone());
                }
            }
            let scheduled = json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": time::now(),
            });
            match pod.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
                Some(conditions) => {
                    conditions.retain(|condition| condition["type"] != "PodScheduled");
                    conditions.push(scheduled);
                }
                None => pod["status"]["conditions"] = json!([scheduled]),
            }
            Ok(Change::Admitted(pod))
        })
        .await?;
        Ok(encoded(201, self.accept.format, &created_status()))
    }
}
