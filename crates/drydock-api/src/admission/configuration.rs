//! Validation of MutatingWebhookConfiguration and ValidatingWebhookConfiguration.

use super::policy_definition;
use crate::{expression, field::FieldError, objects::text};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];

/// Problems of a webhook configuration or policy whose defaults are filled in.
#[must_use]
pub fn problems(configuration: &Value) -> Vec<FieldError> {
    match text(configuration, &["kind"]) {
        "ValidatingAdmissionPolicy" => return policy_definition::policy_problems(configuration),
        "ValidatingAdmissionPolicyBinding" => return policy_definition::binding_problems(configuration),
        _ => {}
    }
    let mut out = Vec::new();
    let mutating = text(configuration, &["kind"]) == "MutatingWebhookConfiguration";
    let mut names = BTreeSet::new();
    for (at, hook) in configuration["webhooks"].as_array().into_iter().flatten().enumerate() {
        let path = format!("webhooks[{at}]");
        check_hook(&path, hook, mutating, &mut out);
        if !names.insert(text(hook, &["name"])) {
            out.push(FieldError::duplicate(format!("{path}.name"), &hook["name"]));
        }
    }
    out
}

fn check_hook(path: &str, hook: &Value, mutating: bool, out: &mut Vec<FieldError>) {
    let name = text(hook, &["name"]);
    if name.split('.').filter(|s| !s.is_empty()).count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        out.push(FieldError::invalid(format!("{path}.name"), &hook["name"], detail));
    }
    check_versions(path, &hook["admissionReviewVersions"], out);
    for (rule_at, rule) in hook["rules"].as_array().into_iter().flatten().enumerate() {
        check_rule(&format!("{path}.rules[{rule_at}]"), rule, out);
    }
    one_of(path, hook, "failurePolicy", &["Fail", "Ignore"], out);
    one_of(path, hook, "matchPolicy", &["Equivalent", "Exact"], out);
    match hook.get("sideEffects").filter(|v| !v.is_null()) {
        None => out.push(FieldError::required(
            format!("{path}.sideEffects"),
            "must specify one of None, NoneOnDryRun",
        )),
        Some(_) => one_of(path, hook, "sideEffects", &["None", "NoneOnDryRun"], out),
    }
    if let Some(seconds) = hook["timeoutSeconds"].as_i64()
        && !(1..=30).contains(&seconds)
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        out.push(FieldError::invalid(
            format!("{path}.timeoutSeconds"),
            &json!(seconds),
            detail,
        ));
    }
    if mutating {
        one_of(path, hook, "reinvocationPolicy", &["IfNeeded", "Never"], out);
    }
    check_client(&format!("{path}.clientConfig"), &hook["clientConfig"], out);
    check_conditions(&format!("{path}.matchConditions"), &hook["matchConditions"], out);
}

fn check_versions(path: &str, versions: &Value, out: &mut Vec<FieldError>) {
    let field = format!("{path}.admissionReviewVersions");
    let list = versions.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        out.push(FieldError::required(field, "must specify one of v1, v1beta1"));
        return;
    }
    let mut seen = BTreeSet::new();
    for (at, version) in list.iter().enumerate() {
        if !seen.insert(version.as_str().unwrap_or_default()) {
            out.push(FieldError::invalid(
                format!("{field}[{at}]"),
                version,
                "duplicate version",
            ));
        }
    }
    if !seen.contains("v1") && !seen.contains("v1beta1") {
        out.push(FieldError::invalid(
            field,
            versions,
            "must include at least one of v1, v1beta1",
        ));
    }
}

fn one_of(path: &str, object: &Value, key: &str, supported: &[&str], out: &mut Vec<FieldError>) {
    if let Some(value) = object.get(key).filter(|v| !v.is_null())
        && !value.as_str().is_some_and(|v| supported.contains(&v))
    {
        out.push(FieldError::not_supported(format!("{path}.{key}"), value, supported));
    }
}

/// Checks the `resourceRules` of a policy's constraints.
pub(super) fn check_rules(path: &str, constraints: &Value, out: &mut Vec<FieldError>) {
    for (at, rule) in constraints["resourceRules"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        check_rule(&format!("{path}.resourceRules[{at}]"), rule, out);
    }
}

fn check_rule(path: &str, rule: &Value, out: &mut Vec<FieldError>) {
    let list = |key: &str| -> Vec<&str> {
        rule[key]
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default()
    };
    for (key, what) in [
        ("apiGroups", "API groups"),
        ("apiVersions", "API versions"),
        ("operations", "operations"),
    ] {
        let field = format!("{path}.{key}");
        let values = list(key);
        if values.is_empty() {
            out.push(FieldError::required(field, ""));
            continue;
        }
        if values.len() > 1 && values.contains(&"*") {
            let detail = format!("if '*' is present, must not specify other {what}");
            out.push(FieldError::invalid(field.clone(), &rule[key], detail));
        }
        if key == "operations" {
            for (at, value) in values.iter().enumerate().filter(|(_, v)| !OPERATIONS.contains(v)) {
                out.push(FieldError::not_supported(
                    format!("{field}[{at}]"),
                    &json!(value),
                    &OPERATIONS,
                ));
            }
        }
        if key == "apiVersions" {
            for (at, value) in values.iter().enumerate().filter(|(_, v)| v.is_empty()) {
                out.push(FieldError::required(format!("{field}[{at}]"), *value));
            }
        }
    }
    check_resources(path, rule, &list("resources"), out);
    one_of(path, rule, "scope", &SCOPES, out);
}

fn check_resources(path: &str, rule: &Value, values: &[&str], out: &mut Vec<FieldError>) {
    let field = format!("{path}.resources");
    if values.is_empty() {
        out.push(FieldError::required(field, ""));
        return;
    }
    if values.len() > 1 && values.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        out.push(FieldError::invalid(field.clone(), &rule["resources"], detail));
        return;
    }
    let mut with_any_subresource = BTreeSet::new();
    for (at, value) in values.iter().enumerate() {
        let here = format!("{field}[{at}]");
        if value.is_empty() {
            out.push(FieldError::required(here, ""));
            continue;
        }
        let (resource, sub) = value.split_once('/').unwrap_or((value, ""));
        if with_any_subresource.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {value}");
            out.push(FieldError::invalid(here, &json!(value), detail));
        } else if sub == "*" {
            with_any_subresource.insert(resource);
        }
    }
}

fn check_client(path: &str, client: &Value, out: &mut Vec<FieldError>) {
    let url = client.get("url").and_then(Value::as_str);
    let service = client.get("service").filter(|s| s.is_object());
    match (url, service) {
        (Some(url), None) => check_url(&format!("{path}.url"), url, out),
        (None, Some(service)) => check_service(&format!("{path}.service"), service, out),
        _ => out.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn check_url(field: &str, url: &str, out: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let mut wrong = |value: &str, text: String| out.push(FieldError::invalid(field, &json!(value), text));
    if scheme != "https" {
        wrong(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        wrong(authority, format!("host must be specified{FORM}"));
    }
    if let Some((user, _)) = authority.rsplit_once('@') {
        wrong(user, format!("user information is not permitted in the URL{FORM}"));
    }
    if let Some((_, fragment)) = rest.split_once('#') {
        wrong(fragment, format!("fragments are not permitted in the URL{FORM}"));
    }
    if let Some((_, query)) = rest.split_once('?') {
        wrong(query, format!("query parameters are not permitted in the URL{FORM}"));
    }
}

fn check_service(path: &str, service: &Value, out: &mut Vec<FieldError>) {
    for key in ["name", "namespace"] {
        if text(service, &[key]).is_empty() {
            out.push(FieldError::required(
                format!("{path}.{key}"),
                format!("service {key} is required"),
            ));
        }
    }
    if let Some(port) = service["port"].as_i64()
        && !(1..=65535).contains(&port)
    {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        out.push(FieldError::invalid(format!("{path}.port"), &json!(port), detail));
    }
    if let Some(url_path) = service["path"].as_str() {
        let field = format!("{path}.path");
        if !url_path.starts_with('/') {
            out.push(FieldError::invalid(field, &service["path"], "must start with a '/'"));
        } else if url_path.contains("//") && url_path != "/" {
            let at = url_path.split('/').skip(1).position(str::is_empty).unwrap_or(0);
            out.push(FieldError::invalid(
                field,
                &service["path"],
                format!("segment[{at}] may not be empty"),
            ));
        }
    }
}

fn check_conditions(path: &str, list: &Value, out: &mut Vec<FieldError>) {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.len() > 64 {
        out.push(FieldError {
            cause: crate::field::Cause::TooMany,
            field: path.into(),
            value: Some(list.len().to_string()),
            detail: "must have at most 64 items".into(),
        });
    }
    let mut seen = BTreeSet::new();
    for (at, condition) in list.iter().enumerate() {
        let here = format!("{path}[{at}]");
        let source = text(condition, &["expression"]);
        if source.trim().is_empty() {
            out.push(FieldError::required(format!("{here}.expression"), ""));
        } else if let Err(problem) = expression::cached(source) {
            let detail = format!("compilation failed: {problem}");
            out.push(FieldError::invalid(
                format!("{here}.expression"),
                &condition["expression"],
                detail,
            ));
        }
        let name = text(condition, &["name"]);
        if name.is_empty() {
            out.push(FieldError::required(format!("{here}.name"), ""));
        } else if !seen.insert(name) {
            out.push(FieldError::duplicate(format!("{here}.name"), &condition["name"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: &Value, expected: &[&str]) {
        let mut hook = json!({"name": "a.example.com", "clientConfig": {"url": "https://x"},
            "admissionReviewVersions": ["v1"], "sideEffects": "None"});
        for (key, value) in change.as_object().into_iter().flatten() {
            hook[key] = value.clone();
        }
        let found: Vec<String> = problems(&json!({"kind": "MutatingWebhookConfiguration", "webhooks": [hook]}))
            .iter()
            .map(|p| format!("{}: {}", p.field.trim_start_matches("webhooks[0]."), p.body()))
            .collect();
        assert_eq!(found, expected, "{change}");
    }

    #[test]
    fn configurations_are_checked() {
        check(&json!({}), &[]);
        check(
            &json!({"name": "short"}),
            &[r#"name: Invalid value: "short": should be a domain with at least three segments separated by dots"#],
        );
        check(
            &json!({"clientConfig": {"url": "http://plain"}}),
            &[
                r#"clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]"#,
            ],
        );
        check(
            &json!({"clientConfig": {}}),
            &[
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required"
                    .trim_start_matches("webhooks[0]."),
            ],
        );
        check(
            &json!({"sideEffects": "Some"}),
            &[r#"sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun""#],
        );
        check(
            &json!({"rules": [{"operations": ["CREATE", "*"], "apiGroups": ["*"], "apiVersions": [], "resources": ["*/*", "pods"]}]}),
            &[
                "rules[0].apiVersions: Required value",
                r#"rules[0].operations: Invalid value: ["CREATE","*"]: if '*' is present, must not specify other operations"#,
                r#"rules[0].resources: Invalid value: ["*/*","pods"]: if '*/*' is present, must not specify other resources"#,
            ],
        );
    }
}
