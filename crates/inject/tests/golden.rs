//! Real injections, as `../shared/conformance/injection` records them, on the webhook's path.
//!
//! Skipped with a line when the folder is absent; `INJECTION_CASE=name` shows one difference in full.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use inject::document::inject_documents;
use inject::{Config, Injector, Outcome, Request};
use serde_json::{Value, json};

fn folder() -> Option<PathBuf> {
    let root = std::env::var_os("TRYSAIL_CONFORMANCE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
        PathBuf::from,
    );
    let folder = root.join("injection");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no conformance data at {}", folder.display());
    None
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let documents = serde_saphyr::from_multiple::<Value>(&text).unwrap();
    documents
        .into_iter()
        .flat_map(|d| match d["kind"].as_str() {
            Some("List") => d["items"].as_array().unwrap().clone(),
            Some(_) => vec![d],
            None => vec![],
        })
        .collect()
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
    let read = |name: &str| {
        let own = folder.join("settings").join(settings).join(name);
        std::fs::read_to_string(if own.exists() {
            own
        } else {
            folder.join("settings/default").join(name)
        })
        .unwrap()
    };
    let mut mesh: Value = serde_saphyr::from_str(&read("mesh.yaml")).unwrap();
    merge(
        &mut mesh,
        &case["meshConfigPatch"]
            .as_object()
            .map_or(json!({}), |_| case["meshConfigPatch"].clone()),
    );
    let mode = case["env"]["ENABLE_NATIVE_SIDECARS"].as_str();
    let native = mode != Some("false") && case["nodes"] != "older";
    Ok(Injector {
        config: Config::parse(&read("config.yaml"), &read("values.json")).map_err(|error| error.to_string())?,
        mesh,
        revision: "default".into(),
        native_sidecars: native,
        compliance_policy: case["env"]["COMPLIANCE_POLICY"].as_str().unwrap_or_default().into(),
    })
}

fn annotations(cluster: &Value, namespace: &str) -> Option<BTreeMap<String, String>> {
    let found = cluster["namespaces"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|n| n["name"] == namespace);
    found.map(|namespace| serde_json::from_value(namespace["annotations"].clone()).unwrap())
}

/// A pod through the webhook's path.
fn webhook(folder: &Path, case: &Value, cluster: &Value) -> Result<(), String> {
    let injector = injector(folder, case)?;
    let golden = case["golden"].as_str().map(|golden| documents(&folder.join(golden)));
    let mut problems = Vec::new();
    for (index, document) in documents(&folder.join(case["input"].as_str().unwrap()))
        .iter()
        .enumerate()
    {
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
        let expected = pod_of(&golden.as_ref().unwrap()[index], false).unwrap();
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
    let input = std::fs::read_to_string(folder.join(case["input"].as_str().unwrap())).unwrap();
    let output = inject_documents(&injector, &input, |namespace| annotations(cluster, namespace));
    if let Some(expected) = case["expectedError"].as_str() {
        return expect_error(output.map(drop).map_err(|error| error.to_string()), expected);
    }
    let output = output.map_err(|error| error.to_string())?;
    let expected = std::fs::read_to_string(folder.join(case["golden"].as_str().unwrap())).unwrap();
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

/// One way to inject a case.
type Way = fn(&Path, &Value, &Value) -> Result<(), String>;

fn check(path: &str, run: Way) {
    let Some(folder) = folder() else { return };
    let read =
        |name: &str| -> Value { serde_saphyr::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap() };
    let (cases, cluster) = (read("cases.yaml"), read("cluster.yaml"));
    let only = std::env::var("INJECTION_CASE").ok();
    let (mut passed, mut failed) = (0, Vec::new());
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let wanted = case["paths"].as_array().unwrap().iter().any(|p| p == path);
        if !wanted || only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        match run(&folder, case, &cluster) {
            Ok(()) => passed += 1,
            Err(problem) => failed.push(format!(
                "{name}:\n    {}",
                problem
                    .chars()
                    .take(if only.is_some() { 100_000 } else { 600 })
                    .collect::<String>()
            )),
        }
    }
    println!(
        "{path}: {passed} passed, {} failed\n{}",
        failed.len(),
        failed.join("\n")
    );
    assert!(
        failed.is_empty(),
        "{} of {} cases differ",
        failed.len(),
        passed + failed.len()
    );
}

#[test]
fn injected_pods_equal_the_recorded_ones() {
    check("webhook", webhook);
}

#[test]
fn injected_files_equal_the_recorded_ones() {
    check("kube-inject", file);
}
