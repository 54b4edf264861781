//! Whether a schema is structural: every field has a type, and nothing else decides what may be there.

use super::{
    convert,
    node::{MAX_DEPTH, field, flag, join, kind, properties},
    validate,
};
use crate::{
    expression::{self, check, check::Known},
    field::{Cause, FieldError},
    schema::Type,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Problems of the schema at `path`.
pub fn check(schema: &Value, path: &str, out: &mut Vec<FieldError>) {
    match kind(schema) {
        "" => out.push(FieldError::required(
            format!("{path}.type"),
            "must not be empty at the root",
        )),
        "object" => {}
        _ => out.push(FieldError::invalid(
            format!("{path}.type"),
            &schema["type"],
            "must be object at the root",
        )),
    }
    walk(schema, path, true, out, 0);
}

fn walk(node: &Value, path: &str, root: bool, out: &mut Vec<FieldError>, depth: usize) {
    if depth > MAX_DEPTH {
        out.push(FieldError::forbidden(path, "schema is nested too deeply"));
        return;
    }
    check_type(node, path, root, out);
    check_list(node, path, out);
    check_extensions(node, path, out);
    check_values(node, path, out);
    check_rules(node, path, root, out);
    let extra = node.get("additionalProperties");
    let declared = properties(node).is_some_and(|p| !p.is_empty());
    if declared && extra.is_some_and(|e| !e.is_null()) {
        let detail = "additionalProperties and properties are mutual exclusive";
        out.push(FieldError::forbidden(format!("{path}.additionalProperties"), detail));
    } else if extra == Some(&Value::Bool(false)) {
        let detail = "additionalProperties cannot be set to false";
        out.push(FieldError::forbidden(format!("{path}.additionalProperties"), detail));
    }
    if let Some(extra) = extra.filter(|e| e.is_object()) {
        walk(extra, &format!("{path}.additionalProperties"), false, out, depth + 1);
    }
    for (name, below) in properties(node).into_iter().flatten() {
        if root && name == "metadata" {
            continue;
        }
        walk(below, &format!("{path}.properties[{name}]"), false, out, depth + 1);
    }
    if let Some(items) = node.get("items").filter(|i| i.is_object()) {
        walk(items, &format!("{path}.items"), false, out, depth + 1);
    }
    for (key, label) in [("allOf", true), ("anyOf", true), ("oneOf", true), ("not", false)] {
        let branches: Vec<(String, &Value)> = if label {
            let list = node[key].as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter()
                .enumerate()
                .map(|(at, b)| (format!("{path}.{key}[{at}]"), b))
                .collect()
        } else {
            node.get(key)
                .filter(|n| n.is_object())
                .map(|b| (format!("{path}.{key}"), b))
                .into_iter()
                .collect()
        };
        for (here, branch) in branches {
            check_branch(branch, &here, flag(node, "x-kubernetes-int-or-string"), out, depth + 1);
        }
    }
}

fn check_type(node: &Value, path: &str, root: bool, out: &mut Vec<FieldError>) {
    let place = format!("{path}.type");
    match kind(node) {
        "" if root
            || flag(node, "x-kubernetes-int-or-string")
            || flag(node, "x-kubernetes-preserve-unknown-fields") => {}
        "" => {
            let what = if path.ends_with(".items") {
                "array items"
            } else {
                "object fields"
            };
            out.push(FieldError::required(
                place,
                format!("must not be empty for specified {what}"),
            ));
        }
        known if TYPES.contains(&known) => {}
        _ => out.push(FieldError::not_supported(place, &node["type"], &TYPES)),
    }
}

fn check_list(node: &Value, path: &str, out: &mut Vec<FieldError>) {
    if kind(node) == "array" && !node["items"].is_object() {
        out.push(FieldError::required(format!("{path}.items"), "must be specified"));
    }
    let list_type = &node["x-kubernetes-list-type"];
    let field = format!("{path}.x-kubernetes-list-type");
    match list_type.as_str() {
        None => {}
        Some(known @ ("atomic" | "set" | "map")) => {
            if kind(node) != "array" {
                let detail = "must be array if x-kubernetes-list-type is specified";
                if kind(node).is_empty() {
                    out.push(FieldError::required(format!("{path}.type"), detail));
                } else {
                    out.push(FieldError::invalid(format!("{path}.type"), &node["type"], detail));
                }
            }
            if known == "map" {
                check_keys(node, path, out);
            }
        }
        Some(_) => out.push(FieldError::not_supported(field, list_type, &["atomic", "map", "set"])),
    }
}

fn check_keys(node: &Value, path: &str, out: &mut Vec<FieldError>) {
    let field = format!("{path}.x-kubernetes-list-map-keys");
    let keys: Vec<&str> = node["x-kubernetes-list-map-keys"]
        .as_array()
        .map(|k| k.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    if keys.is_empty() {
        out.push(FieldError::required(
            field,
            "must not be empty if x-kubernetes-list-type is map",
        ));
        return;
    }
    let items = &node["items"];
    let required: Vec<&str> = items["required"]
        .as_array()
        .map(|r| r.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (at, key) in keys.iter().enumerate() {
        match properties(items).and_then(|p| p.get(*key)) {
            None => {
                let detail = "entries must all be names of item properties";
                out.push(FieldError::invalid(format!("{field}[{at}]"), &json!(key), detail));
            }
            Some(property) if property.get("default").is_none() && !required.contains(key) => {
                let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                out.push(FieldError::required(
                    format!("{path}.items.properties[{key}].default"),
                    detail,
                ));
            }
            Some(_) => {}
        }
    }
}

fn check_extensions(node: &Value, path: &str, out: &mut Vec<FieldError>) {
    if flag(node, "x-kubernetes-int-or-string") && flag(node, "x-kubernetes-preserve-unknown-fields") {
        let detail = "must be false if x-kubernetes-int-or-string is true";
        out.push(FieldError::invalid(
            format!("{path}.x-kubernetes-preserve-unknown-fields"),
            &json!(true),
            detail,
        ));
    }
    if flag(node, "x-kubernetes-embedded-resource")
        && !flag(node, "x-kubernetes-preserve-unknown-fields")
        && properties(node).is_none_or(serde_json::Map::is_empty)
    {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        out.push(FieldError::required(format!("{path}.properties"), detail));
    }
    for key in [
        "$ref",
        "definitions",
        "dependencies",
        "patternProperties",
        "id",
        "deprecated",
        "discriminator",
    ] {
        if node.get(key).is_some_and(|v| !v.is_null()) {
            out.push(FieldError::forbidden(
                format!("{path}.{key}"),
                format!("{key} is not supported"),
            ));
        }
    }
    if flag(node, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        out.push(FieldError::forbidden(format!("{path}.uniqueItems"), detail));
    }
}

fn check_values(node: &Value, path: &str, out: &mut Vec<FieldError>) {
    if let Some(source) = node["pattern"].as_str()
        && let Err(problem) = validate::pattern(source)
    {
        let detail = format!(
            "must be a valid regular expression, but isn't: {}",
            go_words(source, &problem)
        );
        out.push(FieldError::invalid(format!("{path}.pattern"), &node["pattern"], detail));
    }
    if let Some(default) = node.get("default") {
        let field = format!("{path}.default");
        for mut problem in validate::problems(node, default, None, "") {
            problem.field = match problem.field.as_str() {
                "" | "<nil>" => field.clone(),
                below => join(&field, below),
            };
            out.push(problem);
        }
    }
}

/// The Go library's words for what is wrong with a pattern, as far as they differ.
fn go_words(source: &str, problem: &str) -> String {
    let (what, part) = if problem.contains("unclosed character class") {
        ("missing closing ]", source.find('[').map_or(source, |at| &source[at..]))
    } else if problem.contains("unclosed group") {
        ("missing closing )", source)
    } else if problem.contains("unopened group") {
        ("unexpected )", source)
    } else if problem.contains("repetition operator missing expression") {
        (
            "missing argument to repetition operator",
            source.get(..1).unwrap_or(source),
        )
    } else if problem.contains("look-around") {
        (
            "invalid or unsupported Perl syntax",
            source
                .find("(?")
                .map_or(source, |at| source.get(at..at + 3).unwrap_or(source)),
        )
    } else {
        return format!(
            "error parsing regexp: {}",
            problem.lines().last().unwrap_or_default().trim()
        );
    };
    format!("error parsing regexp: {what}: `{part}`")
}

fn check_rules(node: &Value, path: &str, root: bool, out: &mut Vec<FieldError>) {
    let rules = node["x-kubernetes-validations"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if rules.is_empty() {
        return;
    }
    let structure = if root { convert::root(node) } else { convert::part(node) };
    let known = match structure.ty {
        Type::Object | Type::Map | Type::List => Known::Node(&structure),
        Type::String => Known::Scalar("string"),
        Type::Boolean => Known::Scalar("bool"),
        Type::Int64 => Known::Scalar("int"),
        Type::Number => Known::Scalar("double"),
        _ => Known::Any,
    };
    let variables = BTreeMap::from([("self".to_owned(), known), ("oldSelf".to_owned(), known)]);
    for (at, rule) in rules.iter().enumerate() {
        let here = format!("{path}.x-kubernetes-validations[{at}]");
        if rule["rule"].as_str().unwrap_or_default().trim().is_empty() {
            out.push(FieldError::required(format!("{here}.rule"), "rule is not specified"));
            continue;
        }
        for (key, wanted) in [("rule", "bool"), ("messageExpression", "string")] {
            let Some(text) = rule[key].as_str() else { continue };
            let problem = match expression::cached(text) {
                Err(problem) => Some(format!("compilation failed: {problem}")),
                Ok(compiled) => match check::problem(&compiled, &variables) {
                    Some(problem) => Some(format!("compilation failed: {problem}")),
                    None if !check::may_be(&compiled, &variables, wanted) => Some(match wanted {
                        "bool" => "cel expression must evaluate to a bool".to_owned(),
                        _ => "messageExpression must evaluate to a string".to_owned(),
                    }),
                    None => None,
                },
            };
            if let Some(detail) = problem {
                let field = format!("{here}.{key}");
                out.push(FieldError {
                    cause: Cause::Invalid,
                    field,
                    value: Some(format!("{text:?}")),
                    detail,
                });
            }
        }
        check_rule_fields(node, rule, &here, out);
    }
}

fn check_rule_fields(node: &Value, rule: &Value, here: &str, out: &mut Vec<FieldError>) {
    if let Some(message) = rule["message"].as_str() {
        if message.trim().is_empty() && !message.is_empty() {
            let detail = "message must be non-empty if specified";
            out.push(FieldError::invalid(format!("{here}.message"), &rule["message"], detail));
        } else if message.contains('\n') {
            let detail = "message must not contain line breaks";
            out.push(FieldError::invalid(format!("{here}.message"), &rule["message"], detail));
        }
    }
    const REASONS: [&str; 4] = [
        "FieldValueRequired",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueDuplicate",
    ];
    if let Some(reason) = rule["reason"].as_str()
        && !REASONS.contains(&reason)
    {
        out.push(FieldError::not_supported(
            format!("{here}.reason"),
            &rule["reason"],
            &REASONS,
        ));
    }
    if let Some(below) = rule["fieldPath"].as_str().filter(|p| !p.is_empty()) {
        let mut at = Some(node);
        for name in below.trim_start_matches('.').split('.') {
            at = at.and_then(|n| field(n, name));
        }
        if at.is_none() && !below.contains('[') {
            let detail = "fieldPath must be a valid path: does not refer to a valid field";
            out.push(FieldError::invalid(
                format!("{here}.fieldPath"),
                &rule["fieldPath"],
                detail,
            ));
        }
    }
}

/// Inside `allOf` and the like only value checks may stand.
fn check_branch(node: &Value, path: &str, int_or_string: bool, out: &mut Vec<FieldError>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    for key in [
        "description",
        "default",
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ] {
        if node.get(key).is_some_and(|v| !v.is_null() && v != false && v != "") {
            out.push(FieldError::forbidden(
                format!("{path}.{key}"),
                "must be empty to be structural",
            ));
        }
    }
    if !kind(node).is_empty() && !int_or_string {
        out.push(FieldError::forbidden(
            format!("{path}.type"),
            "must be empty to be structural",
        ));
    }
    for (name, below) in properties(node).into_iter().flatten() {
        check_branch(
            below,
            &format!("{path}.properties[{name}]"),
            int_or_string,
            out,
            depth + 1,
        );
    }
    if let Some(items) = node.get("items").filter(|i| i.is_object()) {
        check_branch(items, &format!("{path}.items"), int_or_string, out, depth + 1);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (at, branch) in node[key].as_array().into_iter().flatten().enumerate() {
            check_branch(branch, &format!("{path}.{key}[{at}]"), int_or_string, out, depth + 1);
        }
    }
    if let Some(not) = node.get("not").filter(|n| n.is_object()) {
        check_branch(not, &format!("{path}.not"), int_or_string, out, depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: Value, expected: &[&str]) {
        let schema = json!({"type": "object", "properties": {"a": field}});
        let mut out = Vec::new();
        super::check(&schema, "s", &mut out);
        let found: Vec<String> = out.iter().map(|p| format!("{}: {}", p.field, p.body())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn schemas_must_be_structural() {
        check(json!({"type": "string"}), &[]);
        check(
            json!({}),
            &["s.properties[a].type: Required value: must not be empty for specified object fields"],
        );
        check(
            json!({"type": "array"}),
            &["s.properties[a].items: Required value: must be specified"],
        );
        check(
            json!({"type": "string", "default": 5}),
            &[r#"s.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer""#],
        );
        check(
            json!({"type": "string", "pattern": "["}),
            &[
                "s.properties[a].pattern: Invalid value: \"[\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ]: `[`",
            ],
        );
        check(
            json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}),
            &[
                "s.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ],
        );
        check(
            json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"x": {"type": "string"}}}),
            &[
                "s.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        );
    }
}
