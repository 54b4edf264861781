//! Telemetry: tags of metrics.

use serde_json::Value;

use super::field::Problems;

pub(super) fn check(spec: &Value, problems: &mut Problems) {
    for (index, metrics) in spec["metrics"].as_array().into_iter().flatten().enumerate() {
        for (at, overridden) in metrics["overrides"].as_array().into_iter().flatten().enumerate() {
            for (tag, change) in overridden["tagOverrides"].as_object().into_iter().flatten() {
                let field = format!("spec.metrics[{index}].overrides[{at}].tagOverrides[{tag}].value");
                let given = change["value"].as_str().is_some_and(|value| !value.is_empty());
                match change["operation"].as_str() {
                    Some("REMOVE") => {
                        problems.require(!given, field, "value must not be set when operation is REMOVE");
                    }
                    Some("UPSERT") => {
                        problems.require(given, field, "value must be set when operation is UPSERT");
                    }
                    _ => {}
                }
            }
        }
    }
}
