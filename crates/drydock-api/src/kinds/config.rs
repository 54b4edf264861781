//! Configuration, identity, policy and smaller kinds: what the server sets, and validation.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{list, names, text, workloads::selector_problems};
use crate::{auth::user::User, field::FieldError, meta};

/// Largest ConfigMap or Secret, bytes.
const MAX_DATA: usize = 1024 * 1024;

/// A namespace begins with its finalizer and active.
pub fn prepare_namespace(object: &mut Value) {
    object["status"] = json!({ "phase": "Active" });
    let finalizers = list(object, "/spec/finalizers").to_vec();
    if !finalizers.iter().any(|one| one == "kubernetes") {
        let mut all = finalizers;
        all.push("kubernetes".into());
        object["spec"]["finalizers"] = Value::Array(all);
    }
}

/// Puts `stringData` into `data`.
pub fn merge_string_data(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    let Some(Value::Object(plain)) = map.shift_remove("stringData") else {
        return;
    };
    let data = map.entry("data").or_insert_with(|| json!({}));
    for (key, value) in plain {
        data[key] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
    }
}

/// A certificate request carries who asked.
pub fn prepare_request(user: &User, object: &mut Value) {
    object["spec"]["username"] = user.name.clone().into();
    object["spec"]["groups"] = json!(user.groups);
    if !user.uid.is_empty() {
        object["spec"]["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        object["spec"]["extra"] = json!(user.extra);
    }
    object["status"] = json!({});
}

/// Leaves of an `approval` request nothing but the conditions.
pub fn only_conditions(object: &mut Value, old: &Value) {
    let conditions = object.pointer("/status/conditions").cloned();
    let managed = object
        .pointer("/metadata/managedFields")
        .cloned()
        .unwrap_or(Value::Null);
    *object = old.clone();
    meta::set(object, "managedFields", managed);
    if let Some(mut conditions) = conditions {
        for condition in conditions.as_array_mut().into_iter().flatten() {
            for field in ["lastUpdateTime", "lastTransitionTime"] {
                super::default(condition, field, crate::schema::time::now());
            }
        }
        object["status"]["conditions"] = conditions;
    }
}

/// Field names of events: core form, `events.k8s.io` form.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(object: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(map) = object.as_object_mut() else { return };
    for (from, to) in pairs {
        if let Some(value) = map.shift_remove(from) {
            map.insert(to.into(), value);
        }
    }
}

/// A stored event in the `events.k8s.io` form.
pub fn event_from_core(object: &mut Value) {
    rename(object, EVENT_FIELDS.into_iter());
    if let Some(schema) = crate::schema::builtin("events.v1.Event") {
        crate::schema::normalize(schema, object);
    }
}

/// An event of the `events.k8s.io` form as it is stored.
pub fn event_to_core(object: &mut Value) {
    rename(object, EVENT_FIELDS.into_iter().map(|(core, new)| (new, core)));
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), "v1".into());
    }
    if let Some(schema) = crate::schema::builtin("core.v1.Event") {
        crate::schema::normalize(schema, object);
    }
}

/// A stored autoscaler in its first version.
pub fn autoscaler_to_v1(object: &mut Value) {
    let cpu = |metric: &&Value| text(metric, "/resource/name") == "cpu";
    let target = list(object, "/spec/metrics")
        .iter()
        .find(cpu)
        .and_then(|metric| metric.pointer("/resource/target/averageUtilization").cloned());
    let current = list(object, "/status/currentMetrics")
        .iter()
        .find(cpu)
        .and_then(|metric| metric.pointer("/resource/current/averageUtilization").cloned());
    let other: Vec<Value> = list(object, "/spec/metrics")
        .iter()
        .filter(|metric| !cpu(metric))
        .cloned()
        .collect();
    let conditions = object.pointer("/status/conditions").cloned();
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.shift_remove("metrics");
        spec.shift_remove("behavior");
        if let Some(target) = target {
            spec.insert("targetCPUUtilizationPercentage".into(), target);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.shift_remove("currentMetrics");
        status.shift_remove("conditions");
        if let Some(current) = current {
            status.insert("currentCPUUtilizationPercentage".into(), current);
        }
    }
    let mut annotate = |key: &str, value: Value| {
        let annotations = meta::of(object).entry("annotations").or_insert_with(|| json!({}));
        annotations[key] = value.to_string().into();
    };
    if !other.is_empty() {
        annotate("autoscaling.alpha.kubernetes.io/metrics", Value::Array(other));
    }
    if let Some(conditions) = conditions {
        annotate("autoscaling.alpha.kubernetes.io/conditions", conditions);
    }
    if let Some(schema) = crate::schema::builtin("autoscaling.v1.HorizontalPodAutoscaler") {
        crate::schema::normalize(schema, object);
    }
}

/// An autoscaler of the first version as it is stored.
pub fn autoscaler_from_v1(object: &mut Value) {
    let target = object["spec"]
        .as_object_mut()
        .and_then(|spec| spec.shift_remove("targetCPUUtilizationPercentage"));
    let mut metrics: Vec<Value> = Vec::new();
    if let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.shift_remove("autoscaling.alpha.kubernetes.io/conditions");
        if let Some(Value::String(other)) = annotations.shift_remove("autoscaling.alpha.kubernetes.io/metrics")
            && let Ok(Value::Array(other)) = serde_json::from_str(&other)
        {
            metrics = other;
        }
    }
    if let Some(target) = target {
        metrics.insert(
            0,
            json!({
                "type": "Resource",
                "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": target } },
            }),
        );
    }
    object["spec"]["metrics"] = Value::Array(metrics);
    object["apiVersion"] = "autoscaling/v2".into();
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.shift_remove("currentCPUUtilizationPercentage");
    }
    if let Some(schema) = crate::schema::builtin("autoscaling.v2.HorizontalPodAutoscaler") {
        crate::schema::normalize(schema, object);
    }
}

/// Problems of a namespace's status.
pub fn validate_namespace_status(object: &Value) -> Vec<FieldError> {
    let phase = &object["status"]["phase"];
    match (meta::is_deleting(object), phase.as_str().unwrap_or_default()) {
        (false, "Active") | (true, "Terminating") => Vec::new(),
        (false, _) => vec![FieldError::invalid(
            "status.Phase",
            phase,
            "may only be 'Active' if `deletionTimestamp` is empty",
        )],
        (true, _) => vec![FieldError::invalid(
            "status.Phase",
            phase,
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        )],
    }
}

/// Problems of an object of one of the smaller kinds.
pub fn validate(group: &str, kind: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match (group, kind) {
        ("", "ConfigMap") => config_map(object, old),
        ("", "Secret") => secret(object, old),
        // A changed namespace has its metadata checked as a new one too.
        ("", "Namespace") if old.is_some() => {
            let once = meta::validate_body(object, "metadata");
            [once.clone(), once].concat()
        }
        (
            "",
            "LimitRange"
            | "ResourceQuota"
            | "Endpoints"
            | "Event"
            | "Node"
            | "PersistentVolumeClaim"
            | "PersistentVolume",
        )
        | ("coordination.k8s.io" | "discovery.k8s.io" | "events.k8s.io", _) => {
            super::small::validate(group, kind, object, old)
        }
        (
            "policy"
            | "autoscaling"
            | "networking.k8s.io"
            | "scheduling.k8s.io"
            | "rbac.authorization.k8s.io"
            | "storage.k8s.io"
            | "node.k8s.io"
            | "certificates.k8s.io",
            _,
        ) => super::policies::validate(group, kind, object, old),
        ("admissionregistration.k8s.io", _) => crate::admission::configuration::problems(object),
        ("apiextensions.k8s.io", _) => crate::crd::definition::problems(object, old),
        _ => Vec::new(),
    }
}

fn immutable(object: &Value, old: &Value, fields: &[&str], errors: &mut Vec<FieldError>) {
    if old["immutable"] != true {
        return;
    }
    let message = "field is immutable when `immutable` is set";
    if object["immutable"] != true {
        errors.push(FieldError::forbidden("immutable", message));
    }
    for field in fields {
        if object[*field] != old[*field] {
            errors.push(FieldError::forbidden(*field, message));
        }
    }
}

fn config_map(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(old) = old {
        immutable(object, old, &["data", "binaryData"], &mut errors);
    }
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            size += value.as_str().map_or(0, str::len);
            if let Some(problem) = names::config_key(key) {
                errors.push(FieldError::invalid(format!("{field}[{key}]"), &json!(key), problem));
            }
            if field == "data" && !object["binaryData"][key].is_null() {
                errors.push(FieldError::invalid(
                    format!("data[{key}]"),
                    &json!(key),
                    "duplicate of key present in binaryData",
                ));
            }
        }
    }
    if size > MAX_DATA {
        errors.push(FieldError::too_long("", MAX_DATA));
    }
    errors
}

/// Keys that secrets of a type must have.
fn required_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    }
}

fn secret(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = text(object, "/type");
    if let Some(old) = old {
        if object["type"] != old["type"] {
            errors.push(FieldError::invalid("type", &object["type"], "field is immutable"));
        }
        immutable(object, old, &["data"], &mut errors);
    }
    let mut size = 0;
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        size += value.as_str().map_or(0, |text| text.len() / 4 * 3);
        if let Some(problem) = names::config_key(key) {
            errors.push(FieldError::invalid(format!("data[{key}]"), &json!(key), problem));
        }
    }
    if size > MAX_DATA {
        errors.push(FieldError::too_long("data", MAX_DATA));
    }
    for key in required_keys(kind) {
        match object["data"].get(*key) {
            None => errors.push(FieldError::required(format!("data[{key}]"), "")),
            Some(value) if key.starts_with(".docker") => {
                let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
                if let Err(error) = crate::codec::Document::from_json(&bytes) {
                    errors.push(FieldError {
                        cause: crate::field::Cause::Invalid,
                        field: format!("data[{key}]"),
                        value: Some("\"<secret contents redacted>\"".into()),
                        detail: error,
                    });
                }
            }
            Some(_) => {}
        }
    }
    match kind {
        "kubernetes.io/service-account-token" => {
            let account = object.pointer("/metadata/annotations/kubernetes.io~1service-account.name");
            if account.and_then(Value::as_str).is_none_or(str::is_empty) {
                errors.push(FieldError::required(
                    "metadata.annotations[kubernetes.io/service-account.name]",
                    "",
                ));
            }
        }
        "kubernetes.io/basic-auth" => {
            let has = |key: &str| !object["data"][key].is_null();
            if !has("username") && !has("password") {
                errors.push(FieldError::required("data[username]", ""));
                errors.push(FieldError::required("data[password]", ""));
            }
        }
        _ => {}
    }
    errors
}

/// Warnings about a secret.
pub fn secret_warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    if text(object, "/type") != "kubernetes.io/tls" || old.is_some_and(|old| old["data"] == object["data"]) {
        return Vec::new();
    }
    let decoded = |key: &str| {
        STANDARD
            .decode(text(&object["data"], &format!("/{key}")))
            .unwrap_or_default()
    };
    let found = |bytes: &[u8], label: &str| String::from_utf8_lossy(bytes).contains(label);
    if !found(&decoded("tls.crt"), "-----BEGIN CERTIFICATE-----") {
        return vec!["tls: failed to find any PEM data in certificate input".into()];
    }
    if !found(&decoded("tls.key"), "PRIVATE KEY-----") {
        return vec!["tls: failed to find any PEM data in key input".into()];
    }
    Vec::new()
}

/// Problems of a selector that may be absent.
pub fn optional_selector(selector: &Value, root: &str) -> Vec<FieldError> {
    if selector.is_object() {
        selector_problems(selector, root)
    } else {
        Vec::new()
    }
}
