//! Printer columns of a custom resource.

use super::jsonpath::JsonPath;
use crate::resource::Column;
use serde_json::{Value, json};

const NAME_TEXT: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE_TEXT: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The columns of one version.
#[derive(Debug, Clone)]
pub struct Columns {
    columns: Vec<Column>,
    paths: Vec<Option<JsonPath>>,
}

impl Columns {
    /// Reads `additionalPrinterColumns`; without any there is the age.
    #[must_use]
    pub fn new(given: &Value) -> Self {
        let mut out = Columns {
            columns: vec![Column {
                name: "Name".into(),
                kind: "string".into(),
                format: "name".into(),
                description: NAME_TEXT.into(),
                priority: 0,
            }],
            paths: vec![JsonPath::parse(".metadata.name").ok()],
        };
        let age = json!([{ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": AGE_TEXT }]);
        let given = if given.as_array().is_none_or(Vec::is_empty) {
            &age
        } else {
            given
        };
        for column in given.as_array().into_iter().flatten() {
            let text = |key: &str| column[key].as_str().unwrap_or_default().to_owned();
            let (path, description) = (text("jsonPath"), text("description"));
            out.columns.push(Column {
                name: text("name"),
                kind: text("type"),
                format: text("format"),
                description: match description.as_str() {
                    "" if path == ".metadata.creationTimestamp" => AGE_TEXT.to_owned(),
                    "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                    _ => description,
                },
                priority: column["priority"]
                    .as_i64()
                    .and_then(|p| i32::try_from(p).ok())
                    .unwrap_or(0),
            });
            out.paths.push(JsonPath::parse(&path).ok());
        }
        out
    }

    /// Headings.
    #[must_use]
    pub fn headings(&self) -> Vec<Column> {
        self.columns.clone()
    }

    /// The cells of one object; `age` prints a timestamp as the time since then.
    #[must_use]
    pub fn cells(&self, object: &Value, age: impl Fn(&str) -> String) -> Vec<Value> {
        self.columns
            .iter()
            .zip(&self.paths)
            .map(|(column, path)| {
                let found = path.as_ref().map(|p| p.find(object)).unwrap_or_default();
                cell(&column.kind, &found, &age)
            })
            .collect()
    }
}

fn cell(kind: &str, found: &[&Value], age: impl Fn(&str) -> String) -> Value {
    let Some(first) = found.first().filter(|v| !v.is_null()) else {
        return Value::Null;
    };
    match kind {
        "integer" => match first {
            Value::Number(n) if n.is_f64() => n.as_f64().map_or(Value::Null, |f| json!(f.trunc())),
            Value::Number(_) => (*first).clone(),
            Value::String(text) => text.parse::<i64>().map_or(Value::Null, |i| json!(i)),
            _ => Value::Null,
        },
        "number" => match first {
            Value::Number(_) => (*first).clone(),
            Value::String(text) => text.parse::<f64>().map_or(Value::Null, |f| json!(f)),
            _ => Value::Null,
        },
        "boolean" => match first {
            Value::Bool(_) => (*first).clone(),
            Value::String(text) => text.parse::<bool>().map_or(Value::Null, |b| json!(b)),
            _ => Value::Null,
        },
        "date" => first.as_str().map_or(Value::Null, |text| json!(age(text))),
        _ => {
            let words: Vec<String> = found
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                .collect();
            json!(words.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_follow_their_types() {
        let columns = Columns::new(&json!([
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Hosts", "type": "string", "jsonPath": ".spec.hosts"},
            {"name": "When", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]));
        let age = |_: &str| "1s".to_owned();
        let object = json!({"metadata": {"name": "g", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"size": 3, "hosts": ["a", "b"]}});
        assert_eq!(
            columns.cells(&object, age),
            [json!("g"), json!(3), json!(r#"["a","b"]"#), json!("1s")]
        );
        let other = json!({"metadata": {"name": "h"}, "spec": {"size": "many"}});
        assert_eq!(
            columns.cells(&other, age),
            [json!("h"), Value::Null, Value::Null, Value::Null]
        );
    }
}
