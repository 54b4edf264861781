//! Reading and writing YAML, bounded.

use serde_json::{Map, Value};

/// Largest input, in bytes: room for all CRDs, not for a mistake.
pub const LARGEST: usize = 8 << 20;

/// Why text is no YAML that can be used here.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// The text is too long.
    #[error("is {0} bytes long; at most {LARGEST} are read")]
    TooLarge(usize),
    /// The text is no YAML.
    #[error("no valid YAML: {0}")]
    Syntax(String),
}

/// One document; nothing at all is an empty map.
pub fn document(text: &str) -> Result<Value, YamlError> {
    Ok(documents(text)?
        .into_iter()
        .next()
        .unwrap_or_else(|| Value::Object(Map::new())))
}

/// All documents that are not empty.
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    if text.len() > LARGEST {
        return Err(YamlError::TooLarge(text.len()));
    }
    let mut documents = Vec::new();
    for part in split(text) {
        if part
            .lines()
            .all(|line| line.trim_start().starts_with('#') || line.trim().is_empty())
        {
            continue;
        }
        let value: Value =
            serde_saphyr::from_str(part).map_err(|error| YamlError::Syntax(error.to_string().trim().to_owned()))?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

/// Parts between lines that are `---`.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            parts.push(&text[start..at]);
            start = at + line.len();
        }
        at += line.len();
    }
    parts.push(&text[start..]);
    parts
}

pub use gotemplate::sorted;

/// Block YAML with keys sorted at every level.
pub fn to_sorted(value: &Value) -> String {
    gotemplate::to_yaml(&sorted(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn documents_without_content_are_left_out() {
        let text = "# only a comment\n---\na: 1\n---\n\n---\nb: 2\n";
        assert_eq!(
            documents(text).unwrap(),
            [serde_json::json!({"a": 1}), serde_json::json!({"b": 2})]
        );
    }

    #[test]
    fn too_much_is_refused_before_it_is_parsed() {
        assert!(matches!(
            documents(&"a".repeat(LARGEST + 1)),
            Err(YamlError::TooLarge(_))
        ));
    }
}
