//! Pods: what the server sets, what may change, how they go.

use serde_json::{Value, json};

use super::{list, list_mut, pod_validation, pod_warnings, text};
use crate::{
    error::ApiError,
    field::FieldError,
    meta,
    resource::{Removal, UpdateContext},
    schema::{quantity::Quantity, time},
};

/// What an update of the pod itself may change.
const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A new pod's status.
///
/// # Errors
/// None today.
pub fn prepare_create(_ctx: &UpdateContext<'_>, pod: &mut Value) -> Result<(), ApiError> {
    pod["status"] = json!({ "phase": "Pending", "qosClass": qos_class(pod) });
    if !list(pod, "/spec/schedulingGates").is_empty() {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": null,
            "lastTransitionTime": time::now(),
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    Ok(())
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Value) -> &'static str {
    let amount = |value: &Value| value.as_str().and_then(Quantity::parse).map_or(0, Quantity::nanos);
    let (mut any, mut guaranteed) = (false, true);
    for container in list(pod, "/spec/initContainers")
        .iter()
        .chain(list(pod, "/spec/containers"))
    {
        let resources = &container["resources"];
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount(&resources["requests"][name]), amount(&resources["limits"][name]));
            any |= request > 0 || limit > 0;
            guaranteed &= limit > 0 && (request == limit || request == 0);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Problems of a new pod.
pub fn validate(pod: &Value) -> Vec<FieldError> {
    let mut errors = pod_validation::pod_spec(&pod["spec"], "spec");
    if !list(pod, "/spec/ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(
            "spec.ephemeralContainers",
            "cannot be set on create",
        ));
    }
    errors
}

/// Keeps what an update may never change.
pub fn prepare_update(pod: &mut Value, old: &Value) {
    // Tolerations may be added to but not taken away; leaving them out means keeping them.
    let kept = list(old, "/spec/tolerations").to_vec();
    let given = list(pod, "/spec/tolerations");
    if given.is_empty() && !kept.is_empty() {
        pod["spec"]["tolerations"] = Value::Array(kept);
    }
    let released = !list(old, "/spec/schedulingGates").is_empty() && list(pod, "/spec/schedulingGates").is_empty();
    if released && let Some(conditions) = pod.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        conditions.retain(|condition| condition["reason"] != "SchedulingGated");
    }
}

/// The new specification with every field that an update may change put back to what it was: it must equal the old one.
fn fixed_part(pod: &Value, old: &Value) -> Value {
    let (mut spec, before) = (pod["spec"].clone(), &old["spec"]);
    let negative = before["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|grace| grace < 0);
    if negative && spec["terminationGracePeriodSeconds"] == 1 {
        spec["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"].clone();
    }
    for pointer in ["/containers", "/initContainers"] {
        let images: Vec<Value> = list(before, pointer).iter().map(|one| one["image"].clone()).collect();
        for (container, image) in list_mut(&mut spec, pointer).zip(images) {
            container["image"] = image;
        }
    }
    let mut put_back = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    if !list(before, "/schedulingGates").is_empty() {
        put_back.extend(["nodeSelector", "affinity"]);
    }
    if let Some(map) = spec.as_object_mut() {
        for field in put_back {
            match before.get(field) {
                Some(value) => map.insert(field.into(), value.clone()),
                None => map.shift_remove(field),
            };
        }
    }
    spec
}

/// Problems of a changed pod.
pub fn validate_update(pod: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, pointer) in [
        ("containers", "/spec/containers"),
        ("initContainers", "/spec/initContainers"),
    ] {
        let (new, before) = (list(pod, pointer), list(old, pointer));
        if new.len() != before.len() {
            errors.push(FieldError::forbidden(
                format!("spec.{field}"),
                "pod updates may not add or remove containers",
            ));
            return errors;
        }
        for (index, container) in new.iter().enumerate() {
            let image = text(container, "/image");
            if image.is_empty() {
                errors.push(FieldError::required(format!("spec.{field}[{index}].image"), ""));
            }
        }
    }
    errors.extend(deadline(pod, old));
    for (index, gate) in list(pod, "/spec/schedulingGates").iter().enumerate() {
        if !list(old, "/spec/schedulingGates").contains(gate) {
            errors.push(FieldError::forbidden(
                format!("spec.schedulingGates[{index}].name"),
                format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    text(gate, "/name")
                ),
            ));
        }
    }
    let kept = list(old, "/spec/tolerations");
    if kept
        .iter()
        .any(|toleration| !list(pod, "/spec/tolerations").contains(toleration))
    {
        errors.push(FieldError::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
    let mut fixed = fixed_part(pod, old);
    let newly_bound = text(old, "/spec/nodeName").is_empty()
        && list(pod, "/status/conditions")
            .iter()
            .any(|one| one["type"] == "PodScheduled" && one["status"] == "True");
    if newly_bound && let Some(map) = fixed.as_object_mut() {
        map.shift_remove("nodeName");
    }
    if fixed != old["spec"] {
        let diff = super::pod_diff::spec_diff("core.v1.PodSpec", &fixed, &old["spec"]);
        errors.push(FieldError::forbidden("spec", format!("{UPDATABLE}\n{diff}")));
    }
    errors
}

fn deadline(pod: &Value, old: &Value) -> Vec<FieldError> {
    let (new, before) = (
        &pod["spec"]["activeDeadlineSeconds"],
        &old["spec"]["activeDeadlineSeconds"],
    );
    let field = "spec.activeDeadlineSeconds";
    match (new.as_i64(), before.as_i64()) {
        (Some(new_value), _) if !(0..=i64::from(i32::MAX)).contains(&new_value) => {
            vec![FieldError::invalid(
                field,
                new,
                "must be between 0 and 2147483647, inclusive",
            )]
        }
        (Some(new_value), Some(before)) if new_value > before => {
            vec![FieldError::invalid(
                field,
                new,
                "must be less than or equal to previous value",
            )]
        }
        (None, Some(_)) => vec![FieldError::invalid(
            field,
            &Value::Null,
            "must not update from a positive integer to nil value",
        )],
        _ => Vec::new(),
    }
}

/// Leaves of an `ephemeralcontainers` request nothing but the ephemeral containers.
pub fn only_ephemeral(pod: &mut Value, old: &Value) {
    let wanted = pod["spec"].get("ephemeralContainers").cloned();
    *pod = with_ownership(old, pod);
    if let Some(map) = pod["spec"].as_object_mut() {
        match wanted {
            Some(wanted) => map.insert("ephemeralContainers".into(), wanted),
            None => map.shift_remove("ephemeralContainers"),
        };
    }
}

/// Leaves of a `resize` request nothing but the resources.
pub fn only_resources(pod: &mut Value, old: &Value) {
    let mut resized = with_ownership(old, pod);
    for pointer in ["/spec/containers", "/spec/initContainers"] {
        for container in list_mut(&mut resized, pointer) {
            let wanted = list(pod, pointer).iter().find(|one| one["name"] == container["name"]);
            if let Some(wanted) = wanted {
                container["resources"] = wanted["resources"].clone();
                if let Some(policy) = wanted.get("resizePolicy") {
                    container["resizePolicy"] = policy.clone();
                }
            }
        }
    }
    *pod = resized;
}

fn with_ownership(old: &Value, new: &Value) -> Value {
    let mut pod = old.clone();
    let managed = new.pointer("/metadata/managedFields").cloned().unwrap_or(Value::Null);
    meta::set(&mut pod, "managedFields", managed);
    meta::set(&mut pod, "resourceVersion", meta::resource_version(new).to_owned());
    pod
}

/// Problems of changed ephemeral containers.
pub fn validate_ephemeral(pod: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (new, before) = (
        list(pod, "/spec/ephemeralContainers"),
        list(old, "/spec/ephemeralContainers"),
    );
    for existing in before {
        let name = text(existing, "/name");
        match new.iter().find(|one| one["name"] == existing["name"]) {
            None => errors.push(FieldError::forbidden(
                "spec.ephemeralContainers",
                format!("existing ephemeral containers {name:?} may not be removed\n"),
            )),
            Some(one) if one != existing => errors.push(FieldError::forbidden(
                "spec.ephemeralContainers",
                format!("existing ephemeral containers {name:?} may not be changed\n"),
            )),
            Some(_) => {}
        }
    }
    errors.extend(pod_validation::ephemeral(&pod["spec"], "spec"));
    errors
}

/// Problems of changed resources.
pub fn validate_resize(pod: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = super::containers::resources_of(&pod["spec"], "spec");
    if qos_class(pod) != text(old, "/status/qosClass") {
        errors.push(FieldError::invalid(
            "spec",
            &json!(qos_class(pod)),
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    errors
}

/// Keeps parts of a status that its writer leaves out.
pub fn complete_status(pod: &mut Value) {
    if pod["status"]["qosClass"].is_null() {
        let class = qos_class(pod);
        pod["status"]["qosClass"] = class.into();
    }
}

/// Problems of a changed status.
pub fn validate_status(pod: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if pod["status"]["qosClass"] != old["status"]["qosClass"] && !old["status"]["qosClass"].is_null() {
        errors.push(FieldError::invalid(
            "status.qosClass",
            &pod["status"]["qosClass"],
            "field is immutable",
        ));
    }
    errors
}

/// How a pod goes: at once when nothing runs, else after its grace period.
pub fn removal(pod: &Value, grace: Option<i64>) -> Removal {
    let wanted = grace.unwrap_or_else(|| {
        pod.pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64)
            .unwrap_or(30)
    });
    let unscheduled = text(pod, "/spec/nodeName").is_empty();
    let finished = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    match wanted {
        _ if unscheduled || finished => Removal::Now,
        0 => Removal::Now,
        negative if negative < 0 => Removal::After(1),
        seconds => Removal::After(seconds),
    }
}

/// Warnings about a pod.
pub fn warnings(pod: &Value, old: Option<&Value>) -> Vec<String> {
    // A change that cannot touch what is warned about is not worth repeating the warning.
    if old.is_some_and(|old| old["spec"] == pod["spec"]) {
        Vec::new()
    } else {
        pod_warnings::warnings(pod, "")
    }
}
