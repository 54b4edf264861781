//! Checks that an applied configuration fits its schema: the errors behind `failed to create typed patch object`.

use super::{
    element,
    shape::{Node, Shape},
    walk::step,
};
use crate::schema::Type;
use serde_json::Value;
use std::collections::BTreeSet;

/// Problems as `.path: text`; empty when the object fits.
#[must_use]
pub fn problems(node: Node<'_>, object: &Value) -> Vec<String> {
    let mut out = Vec::new();
    check(node, object, &mut String::new(), &mut out);
    out
}

/// One message for all problems.
#[must_use]
pub fn joined(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => format!(
            "errors:\n{}",
            many.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n")
        ),
    }
}

fn check(node: Node<'_>, value: &Value, path: &mut String, out: &mut Vec<String>) {
    let Some(schema) = node.0 else { return };
    let target = schema.resolve();
    if value.is_null() {
        return;
    }
    let mut wrong = |text: String| out.push(format!("{path}: {text}"));
    match target.ty {
        Type::Any => {}
        Type::Object | Type::Map => match value {
            Value::Object(map) => {
                for (name, below) in map {
                    let length = path.len();
                    path.push_str(&element::printed(&element::field(name)));
                    if node.field(name).0.is_some() {
                        check(node.field(name), below, path, out);
                    } else if target.ty == Type::Object && !target.preserve_unknown {
                        out.push(format!("{path}: field not declared in schema"));
                    }
                    path.truncate(length);
                }
            }
            other => wrong(format!("expected map, got &{{{}}}", go(other))),
        },
        Type::List => match value {
            Value::Array(list) => check_list(node, list, path, out),
            other => wrong(format!("expected list, got &{{{}}}", go(other))),
        },
        Type::Boolean if !value.is_boolean() => wrong(format!("expected boolean, got &{{{}}}", go(value))),
        Type::Int32 | Type::Int64 | Type::Number if !value.is_number() => {
            wrong(format!("expected numeric (int or float), got {}", go_type(value)));
        }
        Type::String | Type::Bytes | Type::Time | Type::MicroTime if !value.is_string() => {
            wrong(format!(
                "expected string, got &value.valueUnstructured{{Value:{}}}",
                go_syntax(value)
            ));
        }
        Type::IntOrString | Type::Quantity if value.is_object() || value.is_array() => {
            wrong(format!("expected any scalar, got &{{{}}}", go(value)));
        }
        _ => {}
    }
}

fn check_list(node: Node<'_>, list: &[Value], path: &mut String, out: &mut Vec<String>) {
    let shape = node.shape(&Value::Array(Vec::new()));
    let mut seen = BTreeSet::new();
    for (at, item) in list.iter().enumerate() {
        let here = match &shape {
            Shape::Keyed(keys) => match element::keyed(keys, item, node.element()) {
                Ok(step) => step,
                Err(text) => {
                    out.push(format!("{path}: element {at}: {text}"));
                    continue;
                }
            },
            Shape::Set => step(&shape, item, node, at),
            _ => format!("i:{at}"),
        };
        let printed = element::printed(&here);
        if !seen.insert(here) {
            out.push(format!("{path}: duplicate entries for key {printed}"));
            continue;
        }
        let length = path.len();
        path.push_str(&printed);
        check(node.element(), item, path, out);
        path.truncate(length);
    }
}

/// A value as Go's `%v` prints it.
fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(k, _)| k.as_str());
            format!(
                "map[{}]",
                entries
                    .iter()
                    .map(|(k, v)| format!("{k}:{}", go(v)))
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        }
        other => other.to_string(),
    }
}

/// A value as Go's `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(k, _)| k.as_str());
            let list: Vec<String> = entries.iter().map(|(k, v)| format!("{k:?}:{}", go_syntax(v))).collect();
            format!("map[string]interface {{}}{{{}}}", list.join(", "))
        }
        Value::Array(list) => {
            format!(
                "[]interface {{}}{{{}}}",
                list.iter().map(go_syntax).collect::<Vec<_>>().join(", ")
            )
        }
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Number(_) => "float64",
        Value::Null => "<nil>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin;
    use serde_json::json;

    fn check(spec: Value, expected: &str) {
        assert_eq!(joined(&problems(Node(builtin("core.v1.PodSpec")), &spec)), expected);
    }

    #[test]
    fn misfits_are_named() {
        check(
            json!({"containers": [{"name": "a", "imag": "x"}]}),
            r#".containers[name="a"].imag: field not declared in schema"#,
        );
        check(
            json!({"containers": [{"name": "a"}, {"name": "a"}]}),
            r#".containers: duplicate entries for key [name="a"]"#,
        );
        check(
            json!({"hostNetwork": "yes"}),
            ".hostNetwork: expected boolean, got &{yes}",
        );
        check(
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": 1}]}]}),
            r#".containers[name="a"].env[name="X"].value: expected string, got &value.valueUnstructured{Value:1}"#,
        );
    }
}
