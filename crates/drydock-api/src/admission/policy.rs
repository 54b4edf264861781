//! ValidatingAdmissionPolicy and its bindings.

use super::{conditions, rules, webhooks::forbidden};
use crate::{
    Core,
    error::ApiError,
    expression,
    hooks::AdmissionRequest,
    label_selector,
    objects::{Objects, text},
    resource::ResourceInfo,
};
use kube_cel::cel::{Context, Value as Cel};
use serde_json::{Value, json};
use std::sync::Arc;

const GROUP: &str = "admissionregistration.k8s.io";

/// Why a policy refuses.
#[derive(Debug, Clone)]
struct Refusal {
    message: String,
    reason: String,
}

impl Refusal {
    fn invalid(message: impl Into<String>) -> Self {
        Refusal {
            message: message.into(),
            reason: "Invalid".into(),
        }
    }
}

/// Evaluates every policy that is bound to this request.
///
/// # Errors
/// The first denial, with the policy's reason (`Invalid` unless it says otherwise).
pub fn validate(core: &Core, request: &AdmissionRequest<'_>, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    if rules::is_exempt(request.resource) {
        return Ok(());
    }
    let bindings = core.list(GROUP, "validatingadmissionpolicybindings", "");
    if bindings.is_empty() {
        return Ok(());
    }
    let mut denial = Ok(());
    for policy in core.list(GROUP, "validatingadmissionpolicies", "") {
        let name = text(&policy, &["metadata", "name"]);
        let Some(seen_as) = constrained(core, request, &policy["spec"]["matchConstraints"]) else {
            continue;
        };
        for binding in bindings.iter().filter(|b| text(b, &["spec", "policyName"]) == name) {
            let narrowed = &binding["spec"]["matchResources"];
            if narrowed.is_object() && constrained(core, request, narrowed).is_none() {
                continue;
            }
            for refusal in evaluate(core, request, &seen_as, &policy, binding) {
                let own = text(binding, &["metadata", "name"]);
                let actions = binding["spec"]["validationActions"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                if actions.iter().any(|a| a == "Warn") {
                    warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{own}': {}",
                        refusal.message
                    ));
                }
                if actions.iter().any(|a| a == "Deny") {
                    denial = denial.and(Err(denied(request, name, own, &refusal)));
                }
            }
        }
    }
    denial
}

fn denied(request: &AdmissionRequest<'_>, policy: &str, binding: &str, refusal: &Refusal) -> ApiError {
    let message = format!(
        "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}",
        refusal.message
    );
    let mut error = forbidden(request, &message);
    error.reason.clone_from(&refusal.reason);
    error.code = match refusal.reason.as_str() {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    error
        .details
        .get_or_insert_default()
        .insert("causes".into(), json!([{ "message": message }]));
    error
}

/// The version to see the request in, if the constraints are about it. Constraints without rules match everything.
fn constrained(core: &Core, request: &AdmissionRequest<'_>, constraints: &Value) -> Option<Arc<ResourceInfo>> {
    if !rules::namespace_selected(core, request, &constraints["namespaceSelector"])
        || !rules::object_selected(request, &constraints["objectSelector"])
    {
        return None;
    }
    let equivalent = text(constraints, &["matchPolicy"]) != "Exact";
    if rules::matched(core, request, &constraints["excludeResourceRules"], equivalent).is_some() {
        return None;
    }
    let included = &constraints["resourceRules"];
    if included.as_array().is_none_or(Vec::is_empty) {
        return Some(request.resource.clone());
    }
    rules::matched(core, request, included, equivalent)
}

/// The policy's answer once per parameter.
fn evaluate(
    core: &Core,
    request: &AdmissionRequest<'_>,
    seen_as: &ResourceInfo,
    policy: &Value,
    binding: &Value,
) -> Vec<Refusal> {
    let spec = &policy["spec"];
    let fails = text(spec, &["failurePolicy"]) != "Ignore";
    let problem = |message: String| {
        if fails {
            vec![Refusal::invalid(message)]
        } else {
            Vec::new()
        }
    };
    let parameters = match parameters(core, request, &spec["paramKind"], &binding["spec"]["paramRef"]) {
        Ok(parameters) => parameters,
        Err(message) => return problem(format!("failed to configure binding: {message}")),
    };
    let mut refusals = Vec::new();
    for parameter in parameters {
        let mut context = conditions::context(request, seen_as);
        context.add_variable_from_value(
            "params",
            expression::value(parameter.as_deref().unwrap_or(&Value::Null)),
        );
        let namespace = core.get("", "namespaces", "", request.namespace);
        context.add_variable_from_value(
            "namespaceObject",
            expression::value(namespace.as_deref().unwrap_or(&Value::Null)),
        );
        match conditions::hold(&spec["matchConditions"], &context) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(message) => {
                refusals.extend(problem(message));
                continue;
            }
        }
        define_variables(&mut context, &spec["variables"]);
        for validation in spec["validations"].as_array().into_iter().flatten() {
            refusals.extend(judge(validation, &context, fails));
        }
    }
    refusals
}

/// `variables`, each computed from those before it. One that cannot be computed is missing where it is used.
fn define_variables(context: &mut Context<'static>, variables: &Value) {
    let mut known: Vec<(String, Cel)> = Vec::new();
    context.add_variable_from_value("variables", expression::object(std::iter::empty()));
    for variable in variables.as_array().into_iter().flatten() {
        let source = text(variable, &["expression"]);
        if let Ok(value) = expression::cached(source).and_then(|e| e.evaluate(context)) {
            known.push((text(variable, &["name"]).to_owned(), value));
            context.add_variable_from_value("variables", expression::object(known.iter().cloned()));
        }
    }
}

fn judge(validation: &Value, context: &Context<'_>, fails: bool) -> Option<Refusal> {
    let source = text(validation, &["expression"]);
    match expression::cached(source).and_then(|e| e.holds(context)) {
        Ok(true) => None,
        Ok(false) => {
            let computed = match text(validation, &["messageExpression"]) {
                "" => None,
                expression => expression::cached(expression).and_then(|e| e.text(context)).ok(),
            };
            let message = computed
                .filter(|m| !m.trim().is_empty() && !m.contains('\n'))
                .unwrap_or_else(|| match text(validation, &["message"]) {
                    "" => format!("failed expression: {}", source.trim()),
                    message => message.trim().to_owned(),
                });
            let reason = match text(validation, &["reason"]) {
                "" => "Invalid",
                reason => reason,
            };
            Some(Refusal {
                message,
                reason: reason.into(),
            })
        }
        Err(message) if fails => Some(Refusal::invalid(format!(
            "expression '{source}' resulted in error: {message}"
        ))),
        Err(_) => None,
    }
}

/// The objects to evaluate with: one `None` when the policy takes no parameters.
fn parameters(
    core: &Core,
    request: &AdmissionRequest<'_>,
    kind: &Value,
    reference: &Value,
) -> Result<Vec<Option<Arc<Value>>>, String> {
    if !kind.is_object() || !reference.is_object() {
        return Ok(vec![None]);
    }
    let (api_version, kind) = (text(kind, &["apiVersion"]), text(kind, &["kind"]));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = core
        .registry
        .by_kind(group, version, kind)
        .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"))?;
    let namespace = match text(reference, &["namespace"]) {
        _ if !resource.namespaced => "",
        "" => request.namespace,
        own => own,
    };
    let found: Vec<Arc<Value>> = match text(reference, &["name"]) {
        "" => core
            .list(group, &resource.plural, namespace)
            .into_iter()
            .filter(|o| label_selector::matches(&reference["selector"], &o["metadata"]["labels"]))
            .collect(),
        name => core.get(group, &resource.plural, namespace, name).into_iter().collect(),
    };
    if found.is_empty() {
        return match text(reference, &["parameterNotFoundAction"]) {
            "Allow" => Ok(Vec::new()),
            _ => Err("no params found for policy binding with `Deny` parameterNotFoundAction".into()),
        };
    }
    Ok(found.into_iter().map(Some).collect())
}
