//! JSON and YAML bodies as values, with the fields that were given twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A parsed body.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// The value; of fields given twice the last.
    pub value: Value,
    /// Paths of fields given twice, `spec.ports[0].name`, in order.
    pub duplicates: Vec<String>,
    /// Problem of the notation itself that only strict decoding minds (YAML's own duplicate message).
    pub notation: Option<String>,
}

impl Document {
    /// Parses JSON.
    ///
    /// # Errors
    /// A description of the first syntax error.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let mut duplicates = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let seed = Seed {
            path: String::new(),
            duplicates: &mut duplicates,
        };
        let value = seed
            .deserialize(&mut deserializer)
            .map_err(|error| syntax_error(bytes, &error))?;
        deserializer.end().map_err(|error| syntax_error(bytes, &error))?;
        Ok(Self {
            value,
            duplicates,
            notation: None,
        })
    }

    /// Parses one YAML 1.1 document (JSON is one too).
    ///
    /// # Errors
    /// A description of the first syntax error.
    pub fn from_yaml(bytes: &[u8]) -> Result<Self, String> {
        if bytes.first() == Some(&b'{')
            && let Ok(document) = Self::from_json(bytes)
        {
            return Ok(document);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
        let strict = serde_saphyr::options! { legacy_octal_numbers: true };
        match serde_saphyr::from_str_with_options::<Value>(text, strict) {
            Ok(value) => Ok(Self {
                value,
                ..Self::default()
            }),
            Err(first) => {
                let lenient = serde_saphyr::options! {
                    legacy_octal_numbers: true,
                    duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
                };
                let value = serde_saphyr::from_str_with_options::<Value>(text, lenient)
                    .map_err(|error| format!("error converting YAML to JSON: yaml: {}", plain(&error, text)))?;
                let key = duplicate_key(&first.to_string());
                let line = first.location().map_or(0, |location| location.line());
                let notation = format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map");
                Ok(Self {
                    value,
                    duplicates: Vec::new(),
                    notation: Some(notation),
                })
            }
        }
    }
}

/// A syntax error in the words of the real server's parser, as far as they are known.
fn plain(error: &dyn fmt::Display, text: &str) -> String {
    let whole = error.to_string();
    let first = whole.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let Some((place, problem)) = first.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) else {
        return first.to_owned();
    };
    let line = place.split(' ').next().unwrap_or_default();
    let dangling = text.trim_end().ends_with(['{', '[', ',', ':']);
    let words = match problem {
        _ if problem.starts_with("unclosed bracket") && dangling => "did not find expected node content",
        _ if problem.starts_with("unclosed bracket '['") => "did not find expected ',' or ']'",
        _ if problem.starts_with("unclosed bracket") => "did not find expected ',' or '}'",
        other => other,
    };
    format!("line {line}: {words}")
}

/// The key a duplicate error names, between the first pair of quotes or after the last colon.
fn duplicate_key(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    if let Some((_, rest)) = line.split_once("key: ") {
        return rest.split(", set ").next().unwrap_or(rest).to_owned();
    }
    for quote in ['`', '"', '\''] {
        if let Some((_, rest)) = line.split_once(quote)
            && let Some((key, _)) = rest.split_once(quote)
        {
            return key.to_owned();
        }
    }
    line.rsplit(": ").next().unwrap_or_default().to_owned()
}

fn syntax_error(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    // The reference parser names the character it stumbled over.
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let line = lines.nth(error.line().saturating_sub(1)).unwrap_or_default();
    let found = line
        .get(error.column().saturating_sub(1))
        .copied()
        .map_or('?', char::from);
    let text = error.to_string();
    if text.starts_with("expected ident")
        && let Some(message) = broken_literal(line, error.column().saturating_sub(1))
    {
        return message;
    }
    let place = if text.contains("key must be a string") || text.contains("trailing comma") {
        "looking for beginning of object key string"
    } else if text.contains("trailing characters") {
        "after top-level value"
    } else if text.contains("expected `,` or `}`") {
        "after object key:value pair"
    } else if text.contains("expected `,` or `]`") {
        "after array element"
    } else if text.contains("expected `:`") {
        "after object key"
    } else {
        "looking for beginning of value"
    };
    format!("invalid character {found:?} {place}")
}

/// A misspelt `null`, `true` or `false`, the wrong character at or just before `at`.
fn broken_literal(line: &[u8], at: usize) -> Option<String> {
    let start = (0..=at)
        .rev()
        .find(|start| matches!(line.get(*start), Some(b'n' | b't' | b'f')))?;
    let literal: &[u8] = match line.get(start)? {
        b'n' => b"null",
        b't' => b"true",
        _ => b"false",
    };
    let (wrong, wanted) = (start..)
        .zip(literal)
        .find(|(place, wanted)| line.get(*place) != Some(wanted))
        .map(|(place, wanted)| (place, *wanted))?;
    let found = line.get(wrong).copied().map_or('?', char::from);
    let literal = String::from_utf8_lossy(literal);
    Some(format!(
        "invalid character {found:?} in literal {literal} (expecting {:?})",
        char::from(wanted)
    ))
}

struct Seed<'a> {
    path: String,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, list.len());
            let seed = Seed {
                path,
                duplicates: &mut *self.duplicates,
            };
            match access.next_element_seed(seed)? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let path = if self.path.is_empty() {
                key.clone()
            } else {
                format!("{}.{key}", self.path)
            };
            if map.contains_key(&key) {
                if self.duplicates.len() >= 1000 {
                    return Err(A::Error::custom("too many duplicate fields"));
                }
                if !self.duplicates.contains(&path) {
                    self.duplicates.push(path.clone());
                }
            }
            let value = access.next_value_seed(Seed {
                path,
                duplicates: &mut *self.duplicates,
            })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn duplicates_are_found_by_path() {
        let document = Document::from_json(br#"{"a":{"b":1,"b":2},"l":[{"c":1,"c":1}]}"#).unwrap();
        assert_eq!(document.duplicates, ["a.b", "l[0].c"]);
        assert_eq!(document.value["a"]["b"], 2);
    }

    #[test]
    fn yaml_duplicates_name_their_line() {
        let document = Document::from_yaml(b"data:\n  k: v\n  k: w\n").unwrap();
        assert_eq!(
            document.notation.as_deref(),
            Some("yaml: unmarshal errors:\n  line 3: key \"k\" already set in map")
        );
        assert_eq!(document.value["data"]["k"], "w");
    }

    #[test]
    fn yaml_is_1_1() {
        let document = Document::from_yaml(b"a: yes\nb: 0755\nc: \"no\"\n").unwrap();
        assert_eq!(document.value, serde_json::json!({"a": true, "b": 493, "c": "no"}));
    }
}
