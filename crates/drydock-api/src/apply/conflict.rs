//! What an apply would take from others, and the error that says so.

use super::{managed::Key, set::Set};
use crate::error::ApiError;
use serde_json::{Map, json};
use std::collections::BTreeMap;

/// The quarrel: who owns what the apply wants to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conflicts(pub BTreeMap<Key, Set>);

impl Conflicts {
    /// Without the fields in `allowed`.
    #[must_use]
    pub fn without(&self, allowed: &Set) -> Conflicts {
        Conflicts(
            self.0
                .iter()
                .map(|(k, s)| (k.clone(), s.difference(allowed)))
                .filter(|(_, s)| !s.is_empty())
                .collect(),
        )
    }

    /// The 409 with one cause per field.
    #[must_use]
    pub fn error(&self) -> ApiError {
        let all: Vec<(&Key, String)> = self
            .0
            .iter()
            .flat_map(|(key, set)| set.printed().into_iter().map(move |path| (key, path)))
            .collect();
        let message = match all.as_slice() {
            [(key, path)] => format!("Apply failed with 1 conflict: conflict with {}: {path}", printed(key)),
            many => {
                let mut lines = Vec::new();
                // Those that own by a subresource come last.
                let (whole, parts): (Vec<_>, Vec<_>) = self.0.iter().partition(|(key, _)| key.subresource.is_empty());
                for (key, set) in whole.into_iter().chain(parts) {
                    lines.push(format!("conflicts with {}:", printed(key)));
                    lines.extend(set.printed().iter().map(|path| format!("- {path}")));
                }
                format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
            }
        };
        let causes: Vec<_> = all
            .iter()
            .map(|(key, path)| {
                json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {}", printed(key)), "field": path })
            })
            .collect();
        let mut error = ApiError::new(409, "Conflict", message);
        let mut details = Map::new();
        details.insert("causes".into(), json!(causes));
        error.details = Some(details);
        error
    }
}

fn printed(key: &Key) -> String {
    let mut text = format!("{:?}", key.manager);
    if !key.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", key.subresource));
    }
    if !key.applied {
        text.push_str(&format!(" using {}", key.api_version));
    }
    text
}
