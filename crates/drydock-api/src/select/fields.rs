//! `fieldSelector` text.

use serde_json::Value;

use crate::resource::ResourceInfo;

/// Longest selector looked at, bytes.
const MAX_LEN: usize = 16 * 1024;

/// A parsed field selector: label, whether it must be equal, value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

impl FieldSelector {
    /// Parses a selector and checks its labels against what the kind supports.
    ///
    /// # Errors
    /// The message of the real server.
    pub fn parse(text: &str, resource: &ResourceInfo) -> Result<Self, String> {
        if text.len() > MAX_LEN {
            return Err("the field selector is too long".into());
        }
        let mut terms = Vec::new();
        for term in split_terms(text).into_iter().filter(|term| !term.is_empty()) {
            let (label, equal, value) =
                split_term(&term).ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
            if !matches!(label.as_str(), "metadata.name" | "metadata.namespace") {
                let known = resource.strategy.field_labels();
                if !known.contains(&label) {
                    return Err(resource.strategy.unknown_field_label(&label));
                }
            }
            terms.push((label, equal, value));
        }
        Ok(Self(terms))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name that objects must have, if one is given.
    pub fn name(&self) -> Option<&str> {
        self.0
            .iter()
            .find(|(label, equal, _)| label == "metadata.name" && *equal)
            .map(|(_, _, value)| value.as_str())
    }

    /// Whether an object satisfies it.
    pub fn matches(&self, resource: &ResourceInfo, object: &Value) -> bool {
        self.0.iter().all(|(label, equal, wanted)| {
            let text = |path: &str| {
                object
                    .pointer(path)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let value = match label.as_str() {
                "metadata.name" => text("/metadata/name"),
                "metadata.namespace" => text("/metadata/namespace"),
                other => resource.strategy.field(object, other).unwrap_or_default(),
            };
            (value == *wanted) == *equal
        })
    }
}

/// The one name that a selector asks for, if it does; what it means is read as where objects are selected.
#[must_use]
pub fn exact_name(text: &str) -> Option<String> {
    if text.len() > MAX_LEN {
        return None;
    }
    let terms = split_terms(text).into_iter().filter(|term| !term.is_empty());
    let terms: Option<Vec<_>> = terms.map(|term| split_term(&term)).collect();
    let named = terms?
        .into_iter()
        .find(|(label, equal, _)| label == "metadata.name" && *equal);
    named.map(|(_, _, name)| name).filter(|name| !name.is_empty())
}

/// Splits at commas that are not escaped.
fn split_terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            terms.push(String::new());
        } else if let Some(last) = terms.last_mut() {
            last.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    terms
}

fn split_term(term: &str) -> Option<(String, bool, String)> {
    let at = term.find(['=', '!'])?;
    let (label, rest) = term.split_at(at);
    let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
        (false, value)
    } else if let Some(value) = rest.strip_prefix("==") {
        (true, value)
    } else {
        (true, rest.strip_prefix('=')?)
    };
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next()?),
            '=' => return None,
            other => plain.push(other),
        }
    }
    Some((label.to_owned(), equal, plain))
}
