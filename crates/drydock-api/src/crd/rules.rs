//! `x-kubernetes-validations`: CEL rules at any node of a schema.

use super::{
    node::{MAX_DEPTH, additional, join, kind, properties},
    validate::counterpart,
};
use crate::{
    expression,
    field::{Cause, FieldError, printed},
};
use kube_cel::cel::{Context, Value as Cel};
use serde_json::Value;
use std::sync::Arc;

/// Identifiers that CEL keeps for itself.
const RESERVED: [&str; 22] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "__proto__",
];

/// Whether the schema has any rule.
#[must_use]
pub fn present(schema: &Value) -> bool {
    fn walk(node: &Value, depth: usize) -> bool {
        depth <= MAX_DEPTH
            && (node["x-kubernetes-validations"]
                .as_array()
                .is_some_and(|r| !r.is_empty())
                || properties(node).is_some_and(|p| p.values().any(|n| walk(n, depth + 1)))
                || additional(node).is_some_and(|n| walk(n, depth + 1))
                || node.get("items").is_some_and(|n| walk(n, depth + 1)))
    }
    walk(schema, 0)
}

/// Rules that do not hold. What is equal to `old` is not judged again.
#[must_use]
pub fn broken(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    expression::with_functions(|base| walk(schema, object, old, "", base, &mut out, 0));
    out
}

fn walk(
    node: &Value,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    base: &Context<'_>,
    out: &mut Vec<FieldError>,
    depth: usize,
) {
    if old == Some(value) || depth > MAX_DEPTH || value.is_null() {
        return;
    }
    let rules = node["x-kubernetes-validations"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if !rules.is_empty() {
        let mut scope = base.new_inner_scope();
        scope.add_variable_from_value("self", typed(node, value));
        let old_value = old.map(|o| typed(node, o));
        for rule in rules {
            out.extend(judge(rule, node, value, old_value.as_ref(), path, &scope));
        }
    }
    match value {
        Value::Object(map) => {
            for (name, below) in map {
                let declared = properties(node).and_then(|p| p.get(name)).or_else(|| additional(node));
                if let Some(schema) = declared {
                    walk(
                        schema,
                        below,
                        old.and_then(|o| o.get(name)),
                        &join(path, name),
                        base,
                        out,
                        depth + 1,
                    );
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = node.get("items") {
                let before = old.and_then(Value::as_array);
                for (at, item) in list.iter().enumerate() {
                    let old_item = before.and_then(|l| counterpart(node, item, l));
                    walk(items, item, old_item, &format!("{path}[{at}]"), base, out, depth + 1);
                }
            }
        }
        _ => {}
    }
}

fn judge(
    rule: &Value,
    node: &Value,
    value: &Value,
    old: Option<&Cel>,
    path: &str,
    scope: &Context<'_>,
) -> Option<FieldError> {
    let source = rule["rule"].as_str().unwrap_or_default();
    let message = rule["message"].as_str().unwrap_or_default().trim();
    let path = if path.is_empty() { "<nil>" } else { path };
    let invalid = |detail: String| {
        Some(FieldError {
            cause: Cause::Invalid,
            field: path.into(),
            value: Some(format!("{:?}", kind(node))),
            detail,
        })
    };
    let program = match expression::cached(source) {
        Ok(program) => program,
        Err(problem) => return invalid(format!("rule compile error: {problem}")),
    };
    let transition = program.mentions("oldSelf");
    let optional = rule["optionalOldSelf"].as_bool().unwrap_or(false);
    let mut inner = scope.new_inner_scope();
    match old {
        Some(old) => inner.add_variable_from_value("oldSelf", old.clone()),
        None if optional => inner.add_variable_from_value("oldSelf", Cel::Null),
        None if transition => return None,
        None => {}
    }
    match program.holds(&inner) {
        Ok(true) => None,
        Ok(false) => Some(failure(rule, value, path, message, source, &inner)),
        Err(problem) => {
            let named = if message.is_empty() { source.trim() } else { message };
            invalid(format!("{problem} evaluating rule: {named}"))
        }
    }
}

fn failure(rule: &Value, value: &Value, path: &str, message: &str, source: &str, scope: &Context<'_>) -> FieldError {
    let computed = rule["messageExpression"]
        .as_str()
        .and_then(|e| expression::cached(e).ok()?.text(scope).ok())
        .map(|m| m.trim().to_owned())
        .filter(|m| !m.is_empty() && !m.contains('\n'));
    let detail = computed.unwrap_or_else(|| {
        if message.is_empty() {
            format!("failed rule: {}", source.trim())
        } else {
            message.to_owned()
        }
    });
    let field = match rule["fieldPath"].as_str() {
        Some(below) if !below.is_empty() => {
            let below = below.trim_start_matches('.');
            if below.starts_with('[') {
                format!("{path}{below}")
            } else {
                join(path, below)
            }
        }
        _ => path.to_owned(),
    };
    let shown = (!value.is_object() && !value.is_array()).then(|| printed(value));
    match rule["reason"].as_str() {
        Some("FieldValueForbidden") => FieldError::forbidden(field, detail),
        Some("FieldValueRequired") => FieldError::required(field, detail),
        Some("FieldValueDuplicate") => FieldError {
            cause: Cause::Duplicate,
            field,
            value: shown,
            detail: String::new(),
        },
        _ => FieldError {
            cause: Cause::Invalid,
            field,
            value: shown,
            detail,
        },
    }
}

/// A value as rules see it: declared fields under escaped names, map keys as they are.
fn typed(node: &Value, value: &Value) -> Cel {
    match value {
        Value::Object(map) => {
            expression::object(
                map.iter()
                    .map(|(name, below)| match properties(node).and_then(|p| p.get(name)) {
                        Some(schema) => (escaped(name), typed(schema, below)),
                        None => (
                            name.clone(),
                            additional(node).map_or_else(|| expression::value(below), |s| typed(s, below)),
                        ),
                    }),
            )
        }
        Value::Array(list) => {
            let items = node.get("items").unwrap_or(&Value::Null);
            Cel::List(Arc::new(list.iter().map(|item| typed(items, item)).collect()))
        }
        Value::Number(n) if kind(node) == "number" => n.as_f64().map_or(Cel::Null, Cel::Float),
        other => expression::value(other),
    }
}

fn escaped(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    if !name.contains("__") && !name.contains(['.', '-', '/']) {
        return name.to_owned();
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(value: &Value, old: Option<&Value>, expected: &[&str]) {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "min": {"type": "integer", "x-kubernetes-validations": [{"rule": "self != 7", "message": "no sevens", "reason": "FieldValueForbidden"}]},
            "max": {"type": "integer"},
            "q": {"type": "string"},
            "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "name is immutable"}]},
            "namespace": {"type": "string"},
        }, "x-kubernetes-validations": [
            {"rule": "!has(self.min) || !has(self.max) || self.min <= self.max", "messageExpression": "'min ' + string(self.min) + ' above max'", "fieldPath": ".min"},
            {"rule": "!has(self.max) || self.max < 100"},
            {"rule": "!has(self.__namespace__) || self.__namespace__ != 'x'", "message": "x"},
            {"rule": "!has(self.q) || duration(self.q) > duration('1ms')", "message": "long"},
        ]}}});
        let old = old.map(|o| json!({ "spec": o }));
        let found: Vec<String> = broken(&schema, &json!({ "spec": value }), old.as_ref())
            .iter()
            .map(|p| format!("{}: {}", p.field, p.body()))
            .collect();
        assert_eq!(found, expected, "{value}");
        assert!(present(&schema));
    }

    #[test]
    fn rules_are_evaluated_where_they_stand() {
        check(
            &json!({"min": 5, "max": 2}),
            None,
            &["spec.min: Invalid value: min 5 above max"],
        );
        check(&json!({"min": 7}), None, &["spec.min: Forbidden: no sevens"]);
        check(
            &json!({"max": 100}),
            None,
            &["spec: Invalid value: failed rule: !has(self.max) || self.max < 100"],
        );
        check(&json!({"namespace": "x"}), None, &["spec: Invalid value: x"]);
        check(
            &json!({"name": "b"}),
            Some(&json!({"name": "a"})),
            &[r#"spec.name: Invalid value: "b": name is immutable"#],
        );
        check(&json!({"name": "b"}), None, &[]);
        check(
            &json!({"q": "forever"}),
            None,
            &[
                r#"spec: Invalid value: "object": type conversion error from 'string' to 'google.protobuf.Duration' evaluating rule: long"#,
            ],
        );
    }
}
