//! What the validating webhook refuses (revisions.md §4.5).

use serde_json::Value;

/// Annotation of the object by which istiod finds out whether its own validator answers.
const ALWAYS_REJECT: &str = "internal.istio.io/webhook-always-reject";

/// Warnings of an object that may be written, or why it may not.
///
/// # Errors
/// What is wrong with the object.
pub fn validate(object: &Value) -> Result<Vec<String>, String> {
    if object["metadata"]["annotations"][ALWAYS_REJECT].as_str() == Some("true") {
        return Err("configuration is invalid: it asks to be refused".to_owned());
    }
    analyze::validation::validate(object)
}
