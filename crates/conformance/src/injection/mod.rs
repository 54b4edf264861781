//! Golden set `injection`: workloads in, injected workloads out, on both ways in: the webhook's, compared as pods, and
//! files, compared as text.

use std::collections::BTreeMap;
use std::path::Path;

use inject::document::inject_documents;
use inject::{Config, Injector, Outcome, Request};
use serde_json::{Value, json};

use crate::report::Case;

/// All cases, each way that it names.
pub fn run(data: &Path) -> Result<Vec<Case>, String> {
    let folder = data.join("injection");
    let (cases, cluster) = (yaml(&folder.join("cases.yaml"))?, yaml(&folder.join("cluster.yaml"))?);
    let mut results = Vec::new();
    for case in cases["cases"].as_array().into_iter().flatten() {
        for path in case["paths"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let outcome = match path {
                "webhook" => webhook(&folder, case, &cluster),
                "kube-inject" => file(&folder, case, &cluster),
                other => Err(format!("unsupported: path {other}")),
            };
            results.push(Case::new(format!("injection/{}/{path}", text(&case["name"])), outcome));
        }
    }
    Ok(results)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn yaml(path: &Path) -> Result<Value, String> {
    serde_saphyr::from_str(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn documents(path: &Path) -> Result<Vec<Value>, String> {
    let documents = serde_saphyr::from_multiple::<Value>(&read(path)?);
    let documents = documents.map_err(|error| format!("{}: {error}", path.display()))?;
    let documents = documents
        .into_iter()
        .flat_map(|d| match d["kind"].as_str() {
            Some("List") => d["items"].as_array().cloned().unwrap_or_default(),
            Some(_) => vec![d],
            None => vec![],
        })
        .collect();
    Ok(documents)
}

/// The pod of a workload, as its controller would send it.
fn pod_of(document: &Value, named: bool) -> Option<Value> {
    let kind = document["kind"].as_str()?;
    if kind == "Pod" {
        return Some(document.clone());
    }
    if kind == "CronJob" || !document["spec"]["template"].is_object() {
        return None;
    }
    let mut pod = document["spec"]["template"].clone();
    if named {
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        let (kind, owner) = if kind == "Deployment" {
            ("ReplicaSet", format!("{name}-fake"))
        } else {
            (kind, name.to_owned())
        };
        let api = if kind == "ReplicaSet" {
            "apps/v1"
        } else {
            document["apiVersion"].as_str()?
        };
        pod["metadata"]["generateName"] = json!(format!("{owner}-"));
        pod["metadata"]["ownerReferences"] =
            json!([{"apiVersion": api, "kind": kind, "name": owner, "controller": true}]);
        if kind == "ReplicaSet" {
            pod["metadata"]["labels"]["pod-template-hash"] = json!("fake");
        }
    }
    Some(pod)
}

/// Both sides in one form: what identifies the test's own pod goes, empty and null fields go.
fn normalised(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(key, _)| {
                    !matches!(
                        key.as_str(),
                        "apiVersion"
                            | "generateName"
                            | "ownerReferences"
                            | "pod-template-hash"
                            | "sidecar.istio.io/status"
                            | "status"
                            | "namespace"
                            | "kind"
                            | "creationTimestamp"
                    )
                })
                .map(|(key, value)| (key.clone(), normalised(value)))
                .filter(|(_, value)| {
                    !(value.is_null()
                        || value.as_object().is_some_and(|o| o.is_empty())
                        || value.as_array().is_some_and(Vec::is_empty))
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(normalised).collect()),
        scalar => scalar.clone(),
    }
}

fn difference(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                difference(
                    &format!("{path}.{key}"),
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                difference(&format!("{path}[{index}]"), a, b, found);
            }
        }
        (a, b) if a != b => found.push(format!("{path}: got {a}, expected {b}")),
        _ => {}
    }
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) if !patch.is_empty() => {
            for (key, value) in patch {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

fn injector(folder: &Path, case: &Value) -> Result<Injector, String> {
    let settings = case["settings"].as_str().unwrap_or("default");
    let setting = |name: &str| {
        let own = folder.join("settings").join(settings).join(name);
        let path = if own.exists() {
            own
        } else {
            folder.join("settings/default").join(name)
        };
        read(&path)
    };
    let mut mesh: Value =
        serde_saphyr::from_str(&setting("mesh.yaml")?).map_err(|error| format!("mesh.yaml: {error}"))?;
    if case["meshConfigPatch"].is_object() {
        merge(&mut mesh, &case["meshConfigPatch"]);
    }
    let mode = case["env"]["ENABLE_NATIVE_SIDECARS"].as_str();
    Ok(Injector {
        config: Config::parse(&setting("config.yaml")?, &setting("values.json")?).map_err(|error| error.to_string())?,
        mesh,
        revision: "default".into(),
        native_sidecars: (mode != Some("false") && case["nodes"] != "older").into(),
        compliance_policy: text(&case["env"]["COMPLIANCE_POLICY"]).into(),
    })
}

fn annotations(cluster: &Value, namespace: &str) -> Option<BTreeMap<String, String>> {
    let found = cluster["namespaces"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|n| n["name"] == namespace)?;
    serde_json::from_value(found["annotations"].clone()).ok()
}

/// A pod through the webhook's path.
fn webhook(folder: &Path, case: &Value, cluster: &Value) -> Result<(), String> {
    let injector = injector(folder, case)?;
    let golden = match case["golden"].as_str() {
        Some(golden) => documents(&folder.join(golden))?,
        None => Vec::new(),
    };
    let mut problems = Vec::new();
    for (index, document) in documents(&folder.join(text(&case["input"])))?.iter().enumerate() {
        let Some(pod) = pod_of(document, true) else { continue };
        let namespace = document["metadata"]["namespace"].as_str().unwrap_or("default");
        let annotations = annotations(cluster, namespace);
        let environment = BTreeMap::new();
        let outcome = injector.inject(Request {
            pod: &pod,
            namespace,
            namespace_annotations: annotations.as_ref(),
            environment: &environment,
            workload: None,
        });
        if let Some(expected) = case["expectedError"].as_str() {
            return expect_error(outcome.map(drop).map_err(|error| error.to_string()), expected);
        }
        let result = match outcome.map_err(|error| error.to_string())? {
            Outcome::Skipped(_) => pod,
            Outcome::Injected(pod) => pod,
        };
        let expected = golden.get(index).and_then(|document| pod_of(document, false));
        let expected = expected.ok_or_else(|| format!("the golden has no pod for document {index}"))?;
        difference("", &normalised(&result), &normalised(&expected), &mut problems);
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n    "))
    }
}

fn expect_error(outcome: Result<(), String>, expected: &str) -> Result<(), String> {
    match outcome {
        Err(error) if error.to_lowercase().contains(expected) => Ok(()),
        other => Err(format!("expected an error with {expected:?}, got {other:?}")),
    }
}

/// A file, compared as text.
fn file(folder: &Path, case: &Value, cluster: &Value) -> Result<(), String> {
    let injector = injector(folder, case)?;
    let input = read(&folder.join(text(&case["input"])))?;
    let output = inject_documents(&injector, &input, |namespace| annotations(cluster, namespace));
    if let Some(expected) = case["expectedError"].as_str() {
        return expect_error(output.map(drop).map_err(|error| error.to_string()), expected);
    }
    let output = output.map_err(|error| error.to_string())?;
    let expected = read(&folder.join(text(&case["golden"])))?;
    if output == expected {
        return Ok(());
    }
    let lines = output
        .lines()
        .zip(expected.lines())
        .enumerate()
        .filter(|(_, (got, want))| got != want);
    let shown = lines
        .take(6)
        .map(|(n, (got, want))| format!("{}: got {got:?}\n         want {want:?}", n + 1));
    Err(format!(
        "{}\n    {} lines, expected {}",
        shown.collect::<Vec<_>>().join("\n    "),
        output.lines().count(),
        expected.lines().count()
    ))
}
