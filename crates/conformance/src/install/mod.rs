//! Golden set `install`: an installation described by flags or a file, and the manifests that result.
//!
//! The values of Istio's charts (`charts-reference`) are inputs here: they take the place of our charts' own defaults,
//! so that what is compared is what templates make of them. Two ConfigMaps carry Istio's template text and a copy of
//! all values; their `data` is not compared.

mod assertions;
mod selectors;

use std::path::Path;

use install::assets::Assets;
use install::chart::{Chart, Release};
use install::component::{Rendering, render};
use install::input::{Input, resolve};
use install::object::Object;
use install::{manifest, yaml};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::data::{cases, read};
use crate::report;

/// Version that the goldens carry.
const VERSION: &str = "1.0.0";
/// Folder of a chart here, and in the reference.
const CHARTS: [(&str, &str); 5] = [
    ("base", "base"),
    ("istiod", "istio-control/istio-discovery"),
    ("gateway", "gateway"),
    ("gateways/istio-ingress", "gateways/istio-ingress"),
    ("gateways/istio-egress", "gateways/istio-egress"),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    #[serde(default)]
    chart: Option<String>,
    #[serde(default)]
    release_name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    is_upgrade: bool,
    input: String,
    #[serde(default)]
    select: Vec<String>,
    #[serde(default)]
    charts: String,
    golden: String,
}

/// Runs every case of `<data>/install`.
///
/// # Errors
/// If the set itself cannot be read.
pub fn run(data: &Path) -> Result<Vec<report::Case>, String> {
    let folder = data.join("install");
    let cases: Vec<Case> = cases(&folder.join("cases.yaml"))?;
    let (live, snapshot) = (
        assets(&data.join("charts-reference"))?,
        assets(&data.join("charts-reference/snapshot"))?,
    );
    let mut results: Vec<report::Case> = cases
        .iter()
        .map(|case| {
            let assets = if case.charts == "snapshot" { &snapshot } else { &live };
            report::Case::new(case.name.clone(), check(case, &folder, assets))
        })
        .collect();
    results.extend(assertions::run(&folder, &live)?);
    results.extend(selectors::run(&folder)?);
    Ok(results)
}

/// Our charts with the reference's values as defaults.
fn assets(reference: &Path) -> Result<Assets, String> {
    let mut assets = Assets::embedded();
    for (ours, theirs) in CHARTS {
        let path = reference.join("charts").join(theirs).join("values.yaml");
        let mut values = yaml::document(&read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        // A wrapper of Istio's, see the set's README.
        if let Some(inner) = values.get("_internal_defaults_do_not_set") {
            values = inner.clone();
        }
        let text = serde_json::to_string(&values).map_err(|error| error.to_string())?;
        assets = assets.with(&format!("charts/{ours}/values.yaml"), text);
    }
    Ok(assets)
}

fn check(case: &Case, folder: &Path, assets: &Assets) -> Result<(), String> {
    let input = read(&folder.join(&case.input))?;
    let produced = match &case.chart {
        Some(chart) => template(case, chart, &input, assets)?,
        None => generate(&[("input.yaml".to_owned(), input)], "", assets)?,
    };
    let produced: Vec<Value> = produced
        .into_iter()
        .filter(|object| selected(object, &case.select))
        .map(|o| o.0)
        .collect();
    let golden = yaml::documents(&read(&folder.join(&case.golden))?).map_err(|error| error.to_string())?;
    compare(&golden, &produced)
}

fn template(case: &Case, chart: &str, input: &str, assets: &Assets) -> Result<Vec<Object>, String> {
    let ours = CHARTS
        .iter()
        .find(|(_, theirs)| *theirs == chart)
        .map(|(ours, _)| *ours);
    let ours = ours.ok_or_else(|| format!("unsupported: chart {chart}"))?;
    let document = yaml::document(input).map_err(|error| error.to_string())?;
    let values = document.pointer("/spec/values").cloned().unwrap_or_else(|| json!({}));
    let release = Release {
        name: &case.release_name,
        namespace: &case.namespace,
        is_upgrade: case.is_upgrade,
    };
    let chart = Chart::load(assets, ours)
        .map_err(|error| error.to_string())?
        .with_version(VERSION);
    chart.render(&release, &values).map_err(|error| error.to_string())
}

/// `istioctl manifest generate` with files and flags.
fn generate(files: &[(String, String)], flags: &str, assets: &Assets) -> Result<Vec<Object>, String> {
    let mut settings = Vec::new();
    let mut words = flags.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "--set" | "-s" => settings.extend(words.next().map(str::to_owned)),
            other => return Err(format!("unsupported: flag {other}")),
        }
    }
    let input = Input {
        files: files.to_vec(),
        settings,
        images: Some(("registry.istio.io/testing".to_owned(), "latest".to_owned())),
        ..Input::default()
    };
    let operator = resolve(&input, assets).map_err(|error| error.to_string())?;
    let how = Rendering {
        version: Some(VERSION),
        is_upgrade: false,
    };
    let components = render(&operator, assets, &how).map_err(|error| error.to_string())?;
    yaml::documents(&manifest::text(&components))
        .map(|all| all.into_iter().map(Object).collect())
        .map_err(|e| e.to_string())
}

/// `Kind:namespace:name`; `*` is any, and a name may stand anywhere unless it ends in `$`.
fn selected(object: &Object, rules: &[String]) -> bool {
    let named = |pattern: &str, text: &str| match (pattern, pattern.strip_suffix('$')) {
        ("*", _) => true,
        (_, Some(whole)) => text == whole,
        (part, None) => text.contains(part),
    };
    rules.is_empty()
        || rules.iter().any(|rule| {
            let mut parts = rule.splitn(3, ':');
            let (kind, namespace, name) = (parts.next(), parts.next(), parts.next());
            kind.is_none_or(|kind| kind == "*" || kind == object.kind())
                && named(namespace.unwrap_or("*"), object.namespace())
                && named(name.unwrap_or("*"), object.name())
        })
}

fn key(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("/kind"), text("/metadata/name"))
}

fn compare(golden: &[Value], produced: &[Value]) -> Result<(), String> {
    let mut differences = Vec::new();
    for expected in golden {
        let Some(actual) = produced.iter().find(|object| key(object) == key(expected)) else {
            differences.push(format!("{} is missing", key(expected)));
            continue;
        };
        let (mut expected, mut actual) = (without_nothing(expected), without_nothing(actual));
        if ["ConfigMap/istio-sidecar-injector", "ConfigMap/values"].contains(&key(&expected).as_str()) {
            for object in [&mut expected, &mut actual] {
                if let Some(fields) = object.as_object_mut() {
                    fields.shift_remove("data");
                }
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.shift_remove("annotations");
                }
            }
        }
        let at = key(&expected);
        differ(&at, &expected, &actual, &mut differences);
    }
    for extra in produced
        .iter()
        .filter(|object| golden.iter().all(|expected| key(expected) != key(object)))
    {
        differences.push(format!("{} is not expected", key(extra)));
    }
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences.join("; "))
    }
}

/// Without `null` and empty maps, which mean nothing to Kubernetes.
fn without_nothing(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), without_nothing(value)))
            .filter(|(_, value)| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()))
            .collect(),
        Value::Array(items) => items.iter().map(without_nothing).collect(),
        scalar => scalar.clone(),
    }
}

/// Names every place where two values differ.
fn differ(at: &str, expected: &Value, actual: &Value, differences: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                match b.get(key) {
                    Some(other) => differ(&format!("{at}.{key}"), value, other, differences),
                    None => differences.push(format!("{at}.{key} is missing")),
                }
            }
            for key in b.keys().filter(|key| !a.contains_key(*key)) {
                differences.push(format!("{at}.{key} is not expected"));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (value, other)) in a.iter().zip(b).enumerate() {
                differ(&format!("{at}[{index}]"), value, other, differences);
            }
        }
        (a, b) if a == b => {}
        (a, b) => differences.push(format!("{at}: expected {a}, got {b}")),
    }
}
