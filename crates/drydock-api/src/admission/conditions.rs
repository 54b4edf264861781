//! Match conditions: CEL expressions that all must hold for a webhook or policy to be called.

use super::review;
use crate::{expression, hooks::AdmissionRequest, resource::ResourceInfo};
use kube_cel::cel::Context;
use serde_json::Value;

/// The variables `object`, `oldObject` and `request`.
#[must_use]
pub fn context(request: &AdmissionRequest<'_>, seen_as: &ResourceInfo) -> Context<'static> {
    let mut context = expression::context();
    context.add_variable_from_value(
        "object",
        expression::value(request.object.as_ref().unwrap_or(&Value::Null)),
    );
    context.add_variable_from_value(
        "oldObject",
        expression::value(request.old_object.unwrap_or(&Value::Null)),
    );
    context.add_variable_from_value(
        "request",
        expression::value(&review::attributes(request, seen_as, "", false)),
    );
    context
}

/// Whether all conditions hold. A condition that is false wins over one that fails.
///
/// # Errors
/// `expression '…' resulted in error: …` of the first that cannot be evaluated.
pub fn hold(conditions: &Value, context: &Context<'_>) -> Result<bool, String> {
    let mut failure = None;
    for condition in conditions.as_array().into_iter().flatten() {
        let source = condition["expression"].as_str().unwrap_or_default();
        match expression::cached(source).and_then(|e| e.holds(context)) {
            Ok(false) => return Ok(false),
            Ok(true) => {}
            Err(text) => {
                failure.get_or_insert(format!("expression '{source}' resulted in error: {text}"));
            }
        }
    }
    failure.map_or(Ok(true), Err)
}
