//! Which requests a webhook or policy is about: rules, namespace and object selectors, equivalent versions.

use crate::{
    Core,
    hooks::{AdmissionRequest, Operation},
    label_selector,
    objects::Objects,
    resource::ResourceInfo,
};
use serde_json::Value;
use std::sync::Arc;

/// Kinds that admission webhooks and policies never see, or nobody could repair a broken one.
const EXEMPT: [&str; 6] = [
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// The word of an operation in rules and reviews.
#[must_use]
pub fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// Whether admission by configuration is skipped for this resource.
#[must_use]
pub fn is_exempt(resource: &ResourceInfo) -> bool {
    resource.group == "admissionregistration.k8s.io" && EXEMPT.contains(&resource.plural.as_str())
}

/// The version in which `rules` want to see the request: its own if a rule names it, another version of the
/// same resource when `equivalent`; `None` if no rule matches.
#[must_use]
pub fn matched(
    core: &Core,
    request: &AdmissionRequest<'_>,
    rules: &Value,
    equivalent: bool,
) -> Option<Arc<ResourceInfo>> {
    let rules = rules.as_array()?;
    let hit = |resource: &ResourceInfo| rules.iter().any(|rule| rule_matches(rule, request, resource));
    if hit(request.resource) {
        return Some(request.resource.clone());
    }
    if !equivalent {
        return None;
    }
    core.registry
        .all()
        .into_iter()
        .filter(|r| r.storage == request.resource.storage && r.version != request.resource.version)
        .find(|r| hit(r))
}

fn rule_matches(rule: &Value, request: &AdmissionRequest<'_>, resource: &ResourceInfo) -> bool {
    let any = |key: &str, wanted: &str| {
        rule[key]
            .as_array()
            .is_some_and(|a| a.iter().filter_map(Value::as_str).any(|v| v == "*" || v == wanted))
    };
    let scope = match rule["scope"].as_str() {
        Some("Namespaced") => !request.namespace.is_empty() && resource.plural != "namespaces",
        Some("Cluster") => request.namespace.is_empty() || resource.plural == "namespaces",
        _ => true,
    };
    let subresource = request.subresource.unwrap_or_default();
    let resources = rule["resources"].as_array().is_some_and(|list| {
        list.iter().filter_map(Value::as_str).any(|pattern| {
            let (name, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
            (name == "*" || name == resource.plural) && (sub == subresource || sub == "*")
        })
    });
    let names = rule["resourceNames"]
        .as_array()
        .is_none_or(|names| names.is_empty() || names.iter().any(|n| n.as_str() == Some(request.name)));
    scope
        && resources
        && names
        && any("operations", word(request.operation))
        && any("apiGroups", &resource.group)
        && any("apiVersions", &resource.version)
}

/// Whether the namespace's labels satisfy `selector`. Cluster-scoped objects always do, a namespace is judged by
/// its own labels.
#[must_use]
pub fn namespace_selected(core: &Core, request: &AdmissionRequest<'_>, selector: &Value) -> bool {
    if is_empty(selector) {
        return true;
    }
    if request.resource.plural == "namespaces" && request.resource.group.is_empty() {
        let own = request
            .object
            .as_ref()
            .filter(|_| request.subresource.is_none())
            .or(request.old_object);
        return own.is_none_or(|o| label_selector::matches(selector, &o["metadata"]["labels"]));
    }
    if request.namespace.is_empty() {
        return true;
    }
    core.get("", "namespaces", "", request.namespace)
        .is_some_and(|ns| label_selector::matches(selector, &ns["metadata"]["labels"]))
}

/// Whether the new or the old object satisfies `selector`.
#[must_use]
pub fn object_selected(request: &AdmissionRequest<'_>, selector: &Value) -> bool {
    if is_empty(selector) {
        return true;
    }
    let hit = |object: Option<&Value>| {
        object
            .is_some_and(|o| o.get("metadata").is_some() && label_selector::matches(selector, &o["metadata"]["labels"]))
    };
    hit(request.object.as_ref()) || hit(request.old_object)
}

fn is_empty(selector: &Value) -> bool {
    selector.as_object().is_none_or(serde_json::Map::is_empty)
}

/// `object` in the version of `target`, which is another version of `from`.
#[must_use]
pub fn converted(from: &ResourceInfo, target: &ResourceInfo, object: &Value) -> Value {
    let mut out = object.clone();
    if from.version != target.version {
        from.strategy.store_form(from, &mut out);
        target.strategy.present(target, &mut out);
        out["apiVersion"] = Value::String(target.api_version());
    }
    out
}
