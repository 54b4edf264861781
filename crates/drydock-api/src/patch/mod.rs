//! Patches of objects: JSON patch, merge patch, strategic merge patch. Server-side apply is in [`crate::apply`].

mod strategic;

use serde_json::{Map, Value};

pub use strategic::strategic_merge;

/// Operations of one JSON patch at most, as the real server allows.
const MAX_OPERATIONS: usize = 10_000;

/// Applies an RFC 7396 merge patch.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.shift_remove(key);
            } else {
                merge(target.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
    }
}

/// Why a JSON patch failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// It is no patch at all.
    #[error("{0}")]
    Malformed(String),
    /// There are too many operations.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooMany(usize),
    /// It does not fit the object.
    #[error("the server rejected our request due to an error in our request")]
    Rejected,
}

/// Applies an RFC 6902 patch.
///
/// # Errors
/// When it is malformed, too long or does not fit.
pub fn json(target: &mut Value, patch: &Value) -> Result<(), JsonPatchError> {
    let Value::Array(operations) = patch else {
        let kind = match patch {
            Value::Object(_) => "object",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            _ => return Ok(()),
        };
        return Err(JsonPatchError::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
        )));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(JsonPatchError::TooMany(operations.len()));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|_| JsonPatchError::Rejected)?;
    json_patch::patch(target, &patch).map_err(|_| JsonPatchError::Rejected)
}
