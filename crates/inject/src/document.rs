//! Injection into files: what `istioctl kube-inject` does with a stream of YAML documents (revisions.md §5.9).
//!
//! Documents without a pod pass through unchanged, byte for byte. The others come out as Kubernetes' own programs
//! write such an object: keys sorted, and the fields that their types always have.

use std::collections::BTreeMap;

use gotemplate::{sorted, to_wrapped_yaml};
use revision::selector::Labels;
use serde_json::{Value, json};

use crate::injector::{InjectError, Injector, Outcome, Request};
use crate::workload::Workload;
use crate::{annotation, shape};

/// Largest file that is read, in bytes.
const LARGEST: usize = 32 << 20;

/// Why a file cannot be injected.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file is larger than any real manifest.
    #[error("the file has {0} bytes; at most {LARGEST} are read")]
    TooLarge(usize),
    /// A document is no YAML.
    #[error("document {number}: {message}")]
    Yaml {
        /// Position in the file, from 1.
        number: usize,
        /// What the parser said.
        message: String,
    },
    /// A workload cannot be injected.
    #[error("{kind} {name}: {source}")]
    Inject {
        /// Kind of the workload.
        kind: String,
        /// Name of the workload.
        name: String,
        /// Why.
        source: InjectError,
    },
}

/// Injects every workload of a YAML stream. `namespace_annotations` is asked for the namespace of each.
pub fn inject_documents(
    injector: &Injector,
    text: &str,
    namespace_annotations: impl Fn(&str) -> Option<Labels>,
) -> Result<String, DocumentError> {
    if text.len() > LARGEST {
        return Err(DocumentError::TooLarge(text.len()));
    }
    let mut result = String::with_capacity(text.len() * 2);
    for (index, document) in gotemplate::documents(text).map(|document| document.text).enumerate() {
        let yaml = |error: String| DocumentError::Yaml {
            number: index + 1,
            message: error,
        };
        let value: Value = serde_saphyr::from_str(document).map_err(|error| yaml(error.to_string()))?;
        match inject_object(injector, &value, &namespace_annotations)? {
            Some(injected) => {
                result.push_str(&to_wrapped_yaml(&sorted(&injected)));
                result.push('\n');
            }
            None => {
                result.push_str(document);
                if !document.ends_with('\n') {
                    result.push('\n');
                }
            }
        }
        result.push_str("---\n");
    }
    Ok(result)
}

/// What the workloads of a YAML stream say that means nothing, with their kind and name.
pub fn warnings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for document in gotemplate::documents(text) {
        collect(&serde_saphyr::from_str(document.text).unwrap_or_default(), &mut found);
    }
    found
}

fn collect(object: &Value, found: &mut Vec<String>) {
    let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    for item in object["items"].as_array().into_iter().flatten() {
        collect(item, found);
    }
    if let Some(path) = pod_path(&kind, object) {
        let pod = path.iter().fold(object, |value, key| &value[*key]);
        let warnings = annotation::warnings(&pod["metadata"]);
        let name = text(&object["metadata"]["name"]);
        found.extend(warnings.iter().map(|warning| format!("{kind} {name}: {warning}")));
    }
}

/// The injected object; `None` for one without a pod.
fn inject_object(
    injector: &Injector,
    object: &Value,
    namespace_annotations: &impl Fn(&str) -> Option<Labels>,
) -> Result<Option<Value>, DocumentError> {
    let kind = object["kind"].as_str().unwrap_or_default();
    if kind == "List" {
        let mut list = object.clone();
        for item in list["items"].as_array_mut().into_iter().flatten() {
            if let Some(injected) = inject_object(injector, item, namespace_annotations)? {
                *item = injected;
            }
        }
        list["metadata"] = json!({});
        return Ok(Some(list));
    }
    let Some(path) = pod_path(kind, object) else {
        return Ok(None);
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&object["metadata"]["name"]);
    let namespace = text(&object["metadata"]["namespace"]);
    let workload = Workload {
        kind: kind.to_owned(),
        api_version: text(&object["apiVersion"]),
        name: name.clone(),
        namespace: namespace.clone(),
    };
    let failed = |source| DocumentError::Inject {
        kind: kind.to_owned(),
        name: name.clone(),
        source,
    };
    let template = path.iter().fold(object, |value, key| &value[*key]);
    shape::check(template).map_err(|why| failed(InjectError::Pod(why)))?;
    let mut result = object.clone();
    // A CronJob's metadata is that of its jobs; Kubernetes copies it to their pods' owner, as Istio does here.
    if kind == "CronJob" {
        let metadata = result["spec"]["jobTemplate"]["metadata"].take();
        result["spec"]["jobTemplate"]["spec"]["template"]["metadata"] = metadata;
    }
    let pod = path.iter().fold(&mut result, |value, key| &mut value[*key]);
    let annotations = namespace_annotations(&namespace);
    let environment = BTreeMap::new();
    let request = Request {
        pod,
        namespace: &namespace,
        namespace_annotations: annotations.as_ref(),
        environment: &environment,
        // A pod in a file may name its controller itself.
        workload: (kind != "Pod").then_some(&workload),
    };
    if let Outcome::Injected(injected) = injector.inject(request).map_err(failed)? {
        *pod = injected;
    }
    if kind == "CronJob" {
        let metadata = result["spec"]["jobTemplate"]["spec"]["template"]["metadata"].take();
        result["spec"]["jobTemplate"]["metadata"] = metadata;
        result["spec"]["jobTemplate"]["spec"]["template"]["metadata"] = json!({});
    }
    complete(kind, &mut result);
    for list in ["initContainers", "containers"] {
        let pod = path.iter().fold(&mut result, |value, key| &mut value[*key]);
        for container in pod["spec"]
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if container["resources"].is_null() {
                container["resources"] = json!({});
            }
        }
    }
    Ok(Some(without_empty(result)))
}

/// Where the pod of a workload is.
fn pod_path(kind: &str, object: &Value) -> Option<&'static [&'static str]> {
    let path: &'static [&'static str] = match kind {
        "Pod" => &[],
        "CronJob" => &["spec", "jobTemplate", "spec", "template"],
        "Deployment"
        | "DaemonSet"
        | "StatefulSet"
        | "ReplicaSet"
        | "ReplicationController"
        | "Job"
        | "DeploymentConfig" => &["spec", "template"],
        _ => return None,
    };
    path.iter().try_fold(object, |value, key| value.get(*key)).map(|_| path)
}

/// Fields that the types of workloads always write.
fn complete(kind: &str, object: &mut Value) {
    let (strategy, status) = match kind {
        "Deployment" => (Some("strategy"), json!({})),
        "DaemonSet" => (
            Some("updateStrategy"),
            json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0}),
        ),
        "StatefulSet" => (Some("updateStrategy"), json!({"availableReplicas": 0, "replicas": 0})),
        "ReplicaSet" | "ReplicationController" => (None, json!({"replicas": 0})),
        "DeploymentConfig" => (
            Some("strategy"),
            json!({"availableReplicas": 0, "latestVersion": 0, "observedGeneration": 0, "replicas": 0, "unavailableReplicas": 0, "updatedReplicas": 0}),
        ),
        _ => (None, json!({})),
    };
    if let Some(strategy) = strategy
        && !object["spec"][strategy].is_object()
    {
        object["spec"][strategy] = json!({});
    }
    if kind == "DeploymentConfig" && !object["spec"]["strategy"]["resources"].is_object() {
        object["spec"]["strategy"]["resources"] = json!({});
    }
    if kind == "DeploymentConfig" && object["spec"]["test"].is_null() {
        object["spec"]["test"] = json!(false);
    }
    if let Some(spec) = object["spec"].as_object_mut() {
        let zero = |value: &Value| value.as_i64() == Some(0) || value.as_bool() == Some(false);
        spec.retain(|field, value| !(matches!(field.as_str(), "minReadySeconds" | "paused") && zero(value)));
    }
    match &mut object["status"] {
        Value::Object(existing) => {
            if let Value::Object(zeros) = status {
                for (field, zero) in zeros {
                    existing.entry(field).or_insert(zero);
                }
            }
        }
        place => *place = status,
    }
}

/// An object without nulls and without empty maps of labels and annotations.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| (key, without_empty(value)))
                .filter(|(key, value)| {
                    let empty = value.as_object().is_some_and(serde_json::Map::is_empty);
                    !(value.is_null() || empty && matches!(key.as_str(), "labels" | "annotations"))
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_empty).collect()),
        scalar => scalar,
    }
}
