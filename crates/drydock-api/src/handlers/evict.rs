//! `pods/eviction`: a delete that respects disruption budgets.

use serde_json::{Value, json};

use super::{Call, Response, bind::created_status, delete::Deleted, options, respond::encoded};
use crate::{error::ApiError, hooks::Operation, label_selector, meta, objects::Objects};

impl Call {
    /// Evicts the pod of the path.
    ///
    /// # Errors
    /// 404, 429 when a budget forbids it.
    pub async fn evict(&mut self) -> Result<Response, ApiError> {
        options::check_write(&self.options, "CreateOptions", false)?;
        let mut eviction = self.input_of("policy", "v1", "Eviction")?;
        meta::set(&mut eviction, "namespace", self.namespace());
        let name = self.name().to_owned();
        let (_, pod) = self.stored(&name)?;
        let eviction = self.mutate(Operation::Create, eviction, None).await?;
        self.admit(Operation::Create, Some(&eviction), None).await?;
        let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
        if !matches!(phase, "Succeeded" | "Failed" | "Pending") && !meta::is_deleting(&pod) {
            self.check_budgets(&pod)?;
        }
        let delete = &eviction["deleteOptions"];
        let options = options::DeleteOptions {
            grace_period: delete["gracePeriodSeconds"].as_i64(),
            uid: delete
                .pointer("/preconditions/uid")
                .and_then(Value::as_str)
                .map(str::to_owned),
            resource_version: delete
                .pointer("/preconditions/resourceVersion")
                .and_then(Value::as_str)
                .map(str::to_owned),
            dry_run: self.options.is_dry_run() || delete["dryRun"].as_array().is_some_and(|list| !list.is_empty()),
            raw: json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" }),
            admitted: true,
            ..options::DeleteOptions::default()
        };
        match self.delete_named(&name, &options).await? {
            Deleted::Removed(_) | Deleted::Pending(_) => Ok(encoded(201, self.accept.format, &created_status())),
        }
    }

    fn check_budgets(&self, pod: &Value) -> Result<(), ApiError> {
        let labels = &pod["metadata"]["labels"];
        let budgets = self.api.core.list("policy", "poddisruptionbudgets", self.namespace());
        let covering: Vec<_> = budgets
            .iter()
            .filter(|budget| {
                budget["spec"]["selector"].is_object() && label_selector::matches(&budget["spec"]["selector"], labels)
            })
            .collect();
        let budget = match covering.as_slice() {
            [] => return Ok(()),
            [one] => one,
            _ => {
                return Err(ApiError::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let allowed = budget
            .pointer("/status/disruptionsAllowed")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if allowed > 0 {
            return Ok(());
        }
        let status = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
        let name = meta::name(budget);
        let mut error = ApiError::new(
            429,
            "TooManyRequests",
            "Cannot evict pod as it would violate the pod's disruption budget.",
        );
        error.details = json!({ "causes": [{
            "reason": "DisruptionBudget",
            "message": format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                status("desiredHealthy"),
                status("currentHealthy"),
            ),
        }] })
        .as_object()
        .cloned();
        Err(error)
    }
}
