//! Template values from and to JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

/// A template value of a JSON value. Object keys come out sorted, as Go iterates maps.
pub fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value),
            (None, Some(value)) => Value::Uint(value),
            (None, None) => Value::Float(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::String(text.as_str().into()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(from_json).collect()),
        serde_json::Value::Object(fields) => {
            let fields: BTreeMap<Arc<str>, Value> = fields
                .iter()
                .map(|(key, value)| (Arc::from(key.as_str()), from_json(value)))
                .collect();
            Value::Map(Arc::new(fields))
        }
    }
}

/// The JSON of a template value; functions have none and become `null`.
pub fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil | Value::Function(_) => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Uint(value) => (*value).into(),
        Value::Float(value) => float(*value),
        Value::String(text) => text.to_string().into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(fields) => serde_json::Value::Object(
            fields
                .iter()
                .map(|(key, value)| (key.to_string(), to_json(value)))
                .collect(),
        ),
    }
}

/// Go writes a whole float without a fraction; so a number that came in as `1.0` goes out as `1`.
fn float(value: f64) -> serde_json::Value {
    // 2^53: up to here every whole number is exact.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return (value as i64).into();
    }
    serde_json::Number::from_f64(value).map_or(serde_json::Value::Null, serde_json::Value::Number)
}

/// The text of a JSON value as Go's programs write it: in one line, and what a web page could take for its own
/// (`<`, `>`, `&`, the separators of lines and paragraphs) as an escape.
pub fn json_text(json: &serde_json::Value) -> String {
    escaped(&json.to_string())
}

/// JSON with those escapes. Outside of strings it has none of these characters.
pub(crate) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_written_as_go_does() {
        assert_eq!(
            json_text(&json!({"a": "x && y <b>", "n": 1})),
            r#"{"a":"x \u0026\u0026 y \u003cb\u003e","n":1}"#
        );
    }
}
