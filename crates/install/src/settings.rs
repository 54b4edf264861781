//! `spec.components.*.k8s`: Kubernetes settings laid over a component's objects after rendering
//! (revisions.md §1.5).

use serde_json::{Map, Value, json};

use crate::object::Object;
use crate::values::merge;

/// Lays the settings over the Deployment, HPA, PDB and Service that are named `workload`.
pub(crate) fn apply(objects: &mut [Object], workload: &str, k8s: &Value) {
    for object in objects.iter_mut().filter(|object| object.name() == workload) {
        match object.kind() {
            "Deployment" | "DaemonSet" => deployment(&mut object.0, k8s),
            "HorizontalPodAutoscaler" => over(&mut object.0, "spec", k8s.get("hpaSpec")),
            "PodDisruptionBudget" => {
                let mut spec = k8s.get("podDisruptionBudget").cloned();
                // The two exclude each other, so the one that was not asked for must go.
                if let Some(spec) = spec.as_mut().and_then(Value::as_object_mut) {
                    if spec.contains_key("maxUnavailable") && !spec.contains_key("minAvailable") {
                        object.0["spec"]["minAvailable"] = Value::Null;
                    } else if spec.contains_key("minAvailable") && !spec.contains_key("maxUnavailable") {
                        object.0["spec"]["maxUnavailable"] = Value::Null;
                    }
                }
                over(&mut object.0, "spec", spec.as_ref());
            }
            "Service" => {
                over(&mut object.0, "spec", k8s.get("service"));
                if let Some(annotations) = k8s.get("serviceAnnotations") {
                    strategic(&mut object.0["metadata"], &json!({"annotations": annotations}));
                }
            }
            _ => {}
        }
    }
}

fn over(object: &mut Value, field: &str, settings: Option<&Value>) {
    if let Some(settings) = settings.filter(|settings| !settings.is_null()) {
        strategic(&mut object[field], settings);
    }
}

fn deployment(object: &mut Value, k8s: &Value) {
    let given = |key: &str| k8s.get(key).filter(|value| !value.is_null());
    if let Some(replicas) = given("replicaCount") {
        object["spec"]["replicas"] = replicas.clone();
    }
    over(&mut object["spec"], "strategy", given("strategy"));
    let template = &mut object["spec"]["template"];
    if let Some(annotations) = given("podAnnotations") {
        strategic(&mut template["metadata"], &json!({"annotations": annotations}));
    }
    let mut pod = Map::new();
    for (key, field) in [
        ("affinity", "affinity"),
        ("nodeSelector", "nodeSelector"),
        ("priorityClassName", "priorityClassName"),
        ("securityContext", "securityContext"),
        ("tolerations", "tolerations"),
    ] {
        if let Some(value) = given(key) {
            pod.insert(field.to_owned(), value.clone());
        }
    }
    strategic(&mut template["spec"], &Value::Object(pod));
    let Some(container) = template.pointer_mut("/spec/containers/0") else {
        return;
    };
    let mut own = Map::new();
    for key in ["env", "imagePullPolicy", "readinessProbe", "resources"] {
        if let Some(value) = given(key) {
            own.insert(key.to_owned(), value.clone());
        }
    }
    strategic(container, &Value::Object(own));
}

/// Merges as Kubernetes' strategic merge does for the fields that settings can reach: lists of named things and of
/// ports merge by their key, other lists are replaced.
fn strategic(base: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *base = patch.clone();
        return;
    };
    if !base.is_object() {
        *base = json!({});
    }
    for (field, value) in patch {
        let key = match field.as_str() {
            "env" | "containers" | "volumes" | "sysctls" => Some("name"),
            "ports" => Some("port"),
            _ => None,
        };
        match (key, value, &mut base[field.as_str()]) {
            (Some(key), Value::Array(items), Value::Array(existing)) => {
                for item in items {
                    match existing.iter_mut().find(|old| old.get(key) == item.get(key)) {
                        Some(old) => merge(old, item),
                        None => existing.push(item.clone()),
                    }
                }
            }
            (None, Value::Object(_), below) => strategic(below, value),
            (_, value, below) => *below = value.clone(),
        }
    }
}
