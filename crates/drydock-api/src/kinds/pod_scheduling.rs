//! Validation of affinity and topology spread constraints.

use serde_json::{Value, json};

use super::{list, names, text};
use crate::field::FieldError;

/// Problems of `affinity` and `topologySpreadConstraints`.
pub fn validate(spec: &Value, root: &str, errors: &mut Vec<FieldError>) {
    let affinity = format!("{root}.affinity");
    node_affinity(
        &spec["affinity"]["nodeAffinity"],
        &format!("{affinity}.nodeAffinity"),
        errors,
    );
    for kind in ["podAffinity", "podAntiAffinity"] {
        pod_affinity(&spec["affinity"][kind], &format!("{affinity}.{kind}"), errors);
    }
    for (index, constraint) in list(spec, "/topologySpreadConstraints").iter().enumerate() {
        let path = format!("{root}.topologySpreadConstraints[{index}]");
        if constraint["maxSkew"].as_i64().unwrap_or(0) <= 0 {
            errors.push(FieldError::invalid(
                format!("{path}.maxSkew"),
                &json!(constraint["maxSkew"].as_i64().unwrap_or(0)),
                "must be greater than zero",
            ));
        }
        if text(constraint, "/topologyKey").is_empty() {
            errors.push(FieldError::required(format!("{path}.topologyKey"), "can not be empty"));
        }
        if !matches!(
            text(constraint, "/whenUnsatisfiable"),
            "DoNotSchedule" | "ScheduleAnyway"
        ) {
            errors.push(FieldError::not_supported(
                format!("{path}.whenUnsatisfiable"),
                &constraint["whenUnsatisfiable"],
                &["DoNotSchedule", "ScheduleAnyway"],
            ));
        }
    }
}

fn node_affinity(affinity: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    let field = format!("{path}.requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_object() {
        let terms = list(required, "/nodeSelectorTerms");
        if terms.is_empty() {
            errors.push(FieldError::required(
                format!("{field}.nodeSelectorTerms"),
                "must have at least one node selector term",
            ));
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(term, &format!("{field}.nodeSelectorTerms[{index}]"), errors);
        }
    }
    for (index, preferred) in list(affinity, "/preferredDuringSchedulingIgnoredDuringExecution")
        .iter()
        .enumerate()
    {
        let field = format!("{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}]");
        weight(preferred, &field, errors);
        node_term(&preferred["preference"], &format!("{field}.preference"), errors);
    }
}

fn weight(preferred: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let weight = preferred["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(
            format!("{field}.weight"),
            &json!(weight),
            "must be in the range 1-100",
        ));
    }
}

fn node_term(term: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (index, expression) in list(term, "/matchExpressions").iter().enumerate() {
        let field = format!("{path}.matchExpressions[{index}]");
        let values = list(expression, "/values");
        match text(expression, "/operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                format!("{field}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                format!("{field}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Gt" | "Lt" if values.len() != 1 => errors.push(FieldError::required(
                format!("{field}.values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => errors.push(FieldError::invalid(
                format!("{field}.operator"),
                &expression["operator"],
                "not a valid selector operator",
            )),
        }
        errors.extend(
            names::qualified_name(text(expression, "/key"))
                .into_iter()
                .map(|problem| FieldError::invalid(format!("{field}.key"), &expression["key"], problem)),
        );
    }
}

fn pod_affinity(affinity: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (index, term) in list(affinity, "/requiredDuringSchedulingIgnoredDuringExecution")
        .iter()
        .enumerate()
    {
        pod_term(
            term,
            &format!("{path}.requiredDuringSchedulingIgnoredDuringExecution[{index}]"),
            errors,
        );
    }
    for (index, preferred) in list(affinity, "/preferredDuringSchedulingIgnoredDuringExecution")
        .iter()
        .enumerate()
    {
        let field = format!("{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}]");
        weight(preferred, &field, errors);
        pod_term(
            &preferred["podAffinityTerm"],
            &format!("{field}.podAffinityTerm"),
            errors,
        );
    }
}

fn pod_term(term: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let key = text(term, "/topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(format!("{path}.topologyKey"), "can not be empty"));
    }
    let shown = json!(key);
    errors.extend(
        names::qualified_name(key)
            .into_iter()
            .map(|problem| FieldError::invalid(format!("{path}.topologyKey"), &shown, problem)),
    );
}
