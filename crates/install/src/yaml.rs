//! Reading and writing YAML, bounded.

use gotemplate::Document;
use serde_json::{Map, Value};

use crate::origin::Lines;

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
    for Document { text: part, before, .. } in gotemplate::documents(text) {
        // What is wrong is told with the line of the whole text.
        let value: Value = match serde_saphyr::from_str(part) {
            Err(_) => serde_saphyr::from_str(&moved(part, before))
                .map_err(|error| YamlError::Syntax(error.to_string().trim().to_owned()))?,
            Ok(value) => value,
        };
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

/// The lines of the first document, if it can be read.
pub(crate) fn lines(text: &str) -> Option<Lines> {
    let first = gotemplate::documents(text)
        .next()
        .filter(|first| first.text.len() <= LARGEST)?;
    serde_saphyr::from_str(&moved(first.text, first.before)).ok()
}

/// A document with empty lines in place of what is before it.
fn moved(part: &str, before: usize) -> String {
    "\n".repeat(before) + part
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
    fn mistakes_have_the_line_of_the_whole_text() {
        let error = documents("a: 1\n---\n# two\nb: 2\nc: d: e\n").unwrap_err().to_string();
        assert!(error.contains("line 5"), "{error}");
    }

    #[test]
    fn too_much_is_refused_before_it_is_parsed() {
        assert!(matches!(
            documents(&"a".repeat(LARGEST + 1)),
            Err(YamlError::TooLarge(_))
        ));
    }
}
