//! Validation of ValidatingAdmissionPolicy and its binding.

use crate::{
    expression::{self, check, check::Known},
    field::FieldError,
    objects::text,
};
use serde_json::Value;
use std::collections::BTreeMap;

const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
/// Variables of every expression of a policy.
const VARIABLES: [&str; 8] = [
    "object",
    "oldObject",
    "request",
    "params",
    "namespaceObject",
    "authorizer",
    "variables",
    "authorizer_requestResource",
];

/// Problems of a policy.
#[must_use]
pub fn policy_problems(policy: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = &policy["spec"];
    one_of(
        "spec.failurePolicy",
        &spec["failurePolicy"],
        &["Fail", "Ignore"],
        &mut out,
    );
    if spec["paramKind"].is_object() {
        for key in ["apiVersion", "kind"] {
            if text(&spec["paramKind"], &[key]).is_empty() {
                out.push(FieldError::required(format!("spec.paramKind.{key}"), ""));
            }
        }
    }
    let constraints = &spec["matchConstraints"];
    if !constraints.is_object() {
        out.push(FieldError::required("spec.matchConstraints", ""));
    } else if constraints["resourceRules"].as_array().is_none_or(Vec::is_empty) {
        out.push(FieldError::required("spec.matchConstraints.resourceRules", ""));
    } else {
        super::configuration::check_rules("spec.matchConstraints", constraints, &mut out);
    }
    let count = |key: &str| spec[key].as_array().map_or(0, Vec::len);
    if count("validations") + count("auditAnnotations") == 0 {
        let detail = "validations or auditAnnotations must contain at least one item";
        out.push(FieldError::required("spec.validations", detail));
        out.push(FieldError::required("spec.auditAnnotations", detail));
    }
    let known: BTreeMap<String, Known<'static>> = VARIABLES.iter().map(|v| ((*v).to_owned(), Known::Any)).collect();
    for (at, validation) in spec["validations"].as_array().into_iter().flatten().enumerate() {
        check_validation(&format!("spec.validations[{at}]"), validation, &known, &mut out);
    }
    for (at, variable) in spec["variables"].as_array().into_iter().flatten().enumerate() {
        let here = format!("spec.variables[{at}]");
        if text(variable, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{here}.name"), "name is not specified"));
        }
        check_expression(&format!("{here}.expression"), &variable["expression"], &known, &mut out);
    }
    for (at, condition) in spec["matchConditions"].as_array().into_iter().flatten().enumerate() {
        let here = format!("spec.matchConditions[{at}]");
        if text(condition, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{here}.name"), ""));
        }
        check_expression(
            &format!("{here}.expression"),
            &condition["expression"],
            &known,
            &mut out,
        );
    }
    out
}

fn check_validation(here: &str, validation: &Value, known: &BTreeMap<String, Known<'_>>, out: &mut Vec<FieldError>) {
    check_expression(&format!("{here}.expression"), &validation["expression"], known, out);
    if let Some(message) = validation["message"].as_str().filter(|m| !m.is_empty()) {
        let detail = if message.trim().is_empty() {
            Some("message must be non-empty if specified")
        } else if message.contains('\n') {
            Some("message must not contain line breaks")
        } else {
            None
        };
        if let Some(detail) = detail {
            out.push(FieldError::invalid(
                format!("{here}.message"),
                &validation["message"],
                detail,
            ));
        }
    }
    if !validation["messageExpression"].is_null() {
        check_expression(
            &format!("{here}.messageExpression"),
            &validation["messageExpression"],
            known,
            out,
        );
    }
    one_of(&format!("{here}.reason"), &validation["reason"], &REASONS, out);
}

fn check_expression(field: &str, value: &Value, known: &BTreeMap<String, Known<'_>>, out: &mut Vec<FieldError>) {
    let source = value.as_str().unwrap_or_default();
    if source.trim().is_empty() {
        out.push(FieldError::required(field, "expression is not specified"));
        return;
    }
    let problem = match expression::cached(source) {
        Err(problem) => Some(problem),
        Ok(compiled) => check::problem(&compiled, known),
    };
    if let Some(problem) = problem {
        out.push(FieldError::invalid(
            field,
            value,
            format!("compilation failed: {problem}"),
        ));
    }
}

fn one_of(field: &str, value: &Value, supported: &[&str], out: &mut Vec<FieldError>) {
    if !value.is_null() && !value.as_str().is_some_and(|v| supported.contains(&v)) {
        out.push(FieldError::not_supported(field, value, supported));
    }
}

/// Problems of a binding.
#[must_use]
pub fn binding_problems(binding: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = &binding["spec"];
    if text(spec, &["policyName"]).is_empty() {
        out.push(FieldError::required("spec.policyName", ""));
    }
    let reference = &spec["paramRef"];
    if reference.is_object() {
        let (named, selected) = (
            !text(reference, &["name"]).is_empty(),
            reference["selector"].is_object(),
        );
        if named && selected {
            let detail = "name and selector are mutually exclusive";
            out.push(FieldError::forbidden("spec.paramRef.name", detail));
        } else if !named && !selected {
            out.push(FieldError::required(
                "spec.paramRef",
                "one of name or selector must be specified",
            ));
        }
        match reference.get("parameterNotFoundAction").filter(|a| !a.is_null()) {
            None => out.push(FieldError::required("spec.paramRef.parameterNotFoundAction", "")),
            Some(action) => one_of(
                "spec.paramRef.parameterNotFoundAction",
                action,
                &["Allow", "Deny"],
                &mut out,
            ),
        }
    }
    let actions = spec["validationActions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if actions.is_empty() {
        out.push(FieldError::required("spec.validationActions", ""));
    }
    for (at, action) in actions.iter().enumerate() {
        one_of(&format!("spec.validationActions[{at}]"), action, &ACTIONS, &mut out);
        if actions[..at].contains(action) {
            out.push(FieldError::duplicate(format!("spec.validationActions[{at}]"), action));
        }
    }
    if actions.iter().any(|a| a == "Deny") && actions.iter().any(|a| a == "Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        out.push(FieldError::invalid(
            "spec.validationActions",
            &spec["validationActions"],
            detail,
        ));
    }
    out
}
