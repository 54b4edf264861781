//! What a pod gets and may use: tolerations, priority, limits, quota.

use super::creates;
use crate::{
    Core,
    admission::webhooks::forbidden,
    error::ApiError,
    hooks::{AdmissionRequest, Operation},
    objects::{Objects, text},
    schema::quantity::Quantity,
};
use serde_json::{Map, Value, json};

/// How long a pod stays on a node that is gone, seconds.
const TOLERATED: i64 = 300;

/// Pods tolerate an unready or unreachable node for five minutes unless they say otherwise.
pub(super) fn tolerations(request: &mut AdmissionRequest<'_>) {
    let about_pods = request.resource.group.is_empty() && request.resource.plural == "pods";
    if !about_pods
        || request.subresource.is_some()
        || !matches!(request.operation, Operation::Create | Operation::Update)
    {
        return;
    }
    let Some(spec) = request.object.as_mut().and_then(|o| o.get_mut("spec")) else {
        return;
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = spec["tolerations"].as_array().into_iter().flatten().any(|t| {
            let (own_key, effect) = (text(t, &["key"]), text(t, &["effect"]));
            (own_key == key || own_key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if tolerated {
            continue;
        }
        let toleration =
            json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED });
        match &mut spec["tolerations"] {
            Value::Array(list) => list.push(toleration),
            other => *other = json!([toleration]),
        }
    }
}

/// The number behind the priority class.
pub(super) fn priority(core: &Core, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
    if !creates(request, "", "pods") {
        return Ok(());
    }
    let Some(spec) = request.object.as_ref().and_then(|o| o.get("spec")) else {
        return Ok(());
    };
    let name = text(spec, &["priorityClassName"]);
    let class = if name.is_empty() {
        core.list("scheduling.k8s.io", "priorityclasses", "")
            .into_iter()
            .find(|c| c["globalDefault"] == true)
    } else {
        let class = core.get("scheduling.k8s.io", "priorityclasses", "", name);
        if class.is_none() {
            return Err(forbidden(
                request,
                &format!("no PriorityClass with name {name} was found"),
            ));
        }
        class
    };
    let value = class.as_ref().and_then(|c| c["value"].as_i64()).unwrap_or(0);
    if let Some(given) = spec["priority"].as_i64()
        && given != value
    {
        return Err(forbidden(
            request,
            &format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            ),
        ));
    }
    let preemption = class.as_ref().map_or("", |c| text(c, &["preemptionPolicy"]));
    let preemption = if preemption.is_empty() {
        "PreemptLowerPriority"
    } else {
        preemption
    };
    let class_name = class.as_ref().map(|c| text(c, &["metadata", "name"]).to_owned());
    if let Some(spec) = request.object.as_mut().and_then(|o| o.get_mut("spec")) {
        spec["priority"] = json!(value);
        spec["preemptionPolicy"] = json!(preemption);
        if let Some(name) = class_name {
            spec["priorityClassName"] = json!(name);
        }
    }
    Ok(())
}

fn container_limits(core: &Core, namespace: &str) -> Vec<Value> {
    core.list("", "limitranges", namespace)
        .iter()
        .flat_map(|range| range["spec"]["limits"].as_array().cloned().unwrap_or_default())
        .filter(|limit| limit["type"] == "Container")
        .collect()
}

/// LimitRange defaults for containers that say nothing.
pub(super) fn limits(core: &Core, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
    if !creates(request, "", "pods") {
        return Ok(());
    }
    let ranges = container_limits(core, request.namespace);
    if ranges.is_empty() {
        return Ok(());
    }
    let Some(pod) = request.object.as_mut() else {
        return Ok(());
    };
    let mut notes = Vec::new();
    for range in &ranges {
        for (key, word) in [("initContainers", "init container"), ("containers", "container")] {
            for container in pod["spec"][key].as_array_mut().into_iter().flatten() {
                let name = text(container, &["name"]).to_owned();
                for (field, defaults) in [("requests", "defaultRequest"), ("limits", "default")] {
                    if !range[defaults].is_object() {
                        continue;
                    }
                    let set = fill(&mut container["resources"][field], &range[defaults]);
                    if !set.is_empty() {
                        notes.push(format!(
                            "{} {} for {word} {name}",
                            set.join(", "),
                            field.trim_end_matches('s')
                        ));
                    }
                }
            }
        }
    }
    if !notes.is_empty() {
        pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"] =
            json!(format!("LimitRanger plugin set: {}", notes.join("; ")));
    }
    Ok(())
}

/// Adds the defaults that are not given; returns their names.
fn fill(given: &mut Value, defaults: &Value) -> Vec<String> {
    let mut set = Vec::new();
    if !given.is_object() {
        *given = Value::Object(Map::new());
    }
    if let Value::Object(map) = given {
        for (resource, amount) in defaults.as_object().into_iter().flatten() {
            if !map.contains_key(resource) {
                map.insert(resource.clone(), amount.clone());
                set.push(resource.clone());
            }
        }
    }
    set.sort();
    set
}

/// LimitRange bounds.
pub(super) fn limits_hold(core: &Core, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    if !creates(request, "", "pods") {
        return Ok(());
    }
    let Some(pod) = &request.object else { return Ok(()) };
    for range in container_limits(core, request.namespace) {
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            for (resource, bound) in range["max"].as_object().into_iter().flatten() {
                let limit = &container["resources"]["limits"][resource];
                if limit.is_null() {
                    let text = format!(
                        "maximum {resource} usage per Container is {}.  No limit is specified",
                        plain(bound)
                    );
                    return Err(forbidden(request, &text));
                }
                if greater(limit, bound) {
                    let text = format!(
                        "maximum {resource} usage per Container is {}, but limit is {}",
                        plain(bound),
                        plain(limit)
                    );
                    return Err(forbidden(request, &text));
                }
            }
            for (resource, bound) in range["min"].as_object().into_iter().flatten() {
                let asked = &container["resources"]["requests"][resource];
                if greater(bound, asked) {
                    let text = format!(
                        "minimum {resource} usage per Container is {}, but request is {}",
                        plain(bound),
                        plain(asked)
                    );
                    return Err(forbidden(request, &text));
                }
            }
        }
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn greater(a: &Value, b: &Value) -> bool {
    match (Quantity::parse(&plain(a)), Quantity::parse(&plain(b))) {
        (Some(a), Some(b)) => a.nanos() > b.nanos(),
        _ => false,
    }
}

/// Objects of the requested kind in its namespace that the name of a quota counts: pods as long as they have not ended.
fn used(core: &Core, request: &AdmissionRequest<'_>, name: &str) -> usize {
    let resource = request.resource;
    let objects = core.list(&resource.group, &resource.plural, request.namespace);
    let ended = |object: &Value| matches!(text(object, &["status", "phase"]), "Succeeded" | "Failed");
    objects.iter().filter(|object| name != "pods" || !ended(object)).count()
}

/// Object counts of ResourceQuotas.
pub(super) fn quota(core: &Core, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    if request.operation != Operation::Create || request.subresource.is_some() || request.namespace.is_empty() {
        return Ok(());
    }
    let resource = request.resource;
    let counted = if resource.group.is_empty() {
        vec![resource.plural.clone(), format!("count/{}", resource.plural)]
    } else {
        vec![format!("count/{}.{}", resource.plural, resource.group)]
    };
    for quota in core.list("", "resourcequotas", request.namespace) {
        for name in &counted {
            let hard = &quota["status"]["hard"][name];
            let limit = plain(hard).parse::<usize>();
            let Ok(limit) = limit else { continue };
            let used = used(core, request, name);
            if used >= limit {
                let text = format!(
                    "exceeded quota: {}, requested: {name}=1, used: {name}={used}, limited: {name}={limit}",
                    text(&quota, &["metadata", "name"])
                );
                return Err(forbidden(request, &text));
            }
        }
    }
    Ok(())
}
