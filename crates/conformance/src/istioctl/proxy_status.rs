//! The status table. Without flags its columns are those of the upgrade page (operators.md §1), which today's Istio does
//! not have: there the goldens are compared exactly with `-o types`, and cell by cell with the page's. `-v 1` is
//! Istio's, exactly.

use std::collections::BTreeMap;
use std::path::Path;

use istioctl::command::proxy_status::diff::{compare, text};
use istioctl::command::proxy_status::show::{documents, table};
use istioctl::command::proxy_status::types::{states, subscribed};
use serde_json::Value;
use status::gather::{Answer, Instance};
use status::proxy::{Proxy, Sync};
use status::version::Build;

use super::{Case, same};
use crate::data::read;

pub(super) fn check(case: &Case, folder: &Path) -> Result<(), String> {
    let golden = case.text("golden");
    let mut answers: Vec<Answer<Vec<Proxy>>> = case.list("responses").map(answer).collect();
    let namespace = case.text("namespace");
    for proxies in answers.iter_mut().filter_map(|answer| answer.result.as_mut().ok()) {
        proxies.retain(|proxy| namespace.is_empty() || proxy.namespace == namespace);
    }
    let text = read(&folder.join(golden))?;
    let expected = match golden.rsplit('.').next() {
        Some("json") => Some(json_documents(&text)?),
        Some("yaml") => Some(install::yaml::documents(&text).map_err(|error| error.to_string())?),
        _ => None,
    };
    if let Some(expected) = expected {
        let versions: Vec<Answer<Build>> = case.list("responses").zip(&answers).map(version).collect();
        return same_documents(&expected, &documents(&answers, &versions));
    }
    let golden = text;
    if case
        .args
        .iter()
        .any(|argument| argument == "--verbosity" || argument == "-v")
    {
        return same(&golden, &states(&answers));
    }
    same(&golden, &subscribed(&answers))?;
    same_cells(&golden, &table(&answers))
}

/// Documents after one another.
fn json_documents(text: &str) -> Result<Vec<Value>, String> {
    let documents: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    documents.map_err(|error| error.to_string())
}

fn same_documents(golden: &[Value], documents: &[Value]) -> Result<(), String> {
    let plain = |documents: &[Value]| -> Vec<Value> {
        let mut documents = documents.to_vec();
        for document in &mut documents {
            // JSON within JSON.
            let text = document["controlPlane"]["identifier"].as_str().unwrap_or_default();
            document["controlPlane"]["identifier"] = serde_json::from_str(text).unwrap_or_default();
        }
        documents
    };
    let (golden, ours) = (plain(golden), plain(documents));
    if golden == ours {
        Ok(())
    } else {
        Err(format!("expected {golden:?}, got {ours:?}"))
    }
}

/// What an istiod sent against what Envoy has.
pub(super) fn diff(case: &Case, folder: &Path) -> Result<(), String> {
    let dump = |key: &str| -> Result<Value, String> {
        serde_json::from_str(&read(&folder.join(case.text(key)))?).map_err(|error| error.to_string())
    };
    let sections =
        compare(&dump("istiodDump")?, &dump("envoyDump")?).map_err(|failure| failure.message().to_owned())?;
    let text = text(&sections);
    for fragment in case.list("expectedContains").filter_map(Value::as_str) {
        if !text.contains(fragment) {
            return Err(format!("expected {fragment:?} in {text:?}"));
        }
    }
    Ok(())
}

fn version((response, answer): (&Value, &Answer<Vec<Proxy>>)) -> Answer<Build> {
    let build = Build {
        version: response["controlPlaneVersion"].as_str().unwrap_or_default().to_owned(),
        ..Build::default()
    };
    Answer {
        instance: answer.instance.clone(),
        result: Ok(build),
    }
}

/// What both tables have must agree.
fn same_cells(theirs: &str, ours: &str) -> Result<(), String> {
    let (theirs, ours) = (cells(theirs), cells(ours));
    if ours.len() != theirs.len() {
        return Err(format!("expected {} proxies, got {}", theirs.len(), ours.len()));
    }
    for (expected, actual) in theirs.iter().zip(&ours) {
        for (column, value) in expected
            .iter()
            .filter(|(column, _)| column.as_str() != "SUBSCRIBED TYPES")
        {
            if actual.get(column) != Some(value) {
                return Err(format!("{column}: expected {value:?}, got {:?}", actual.get(column)));
            }
        }
    }
    Ok(())
}

/// Rows as column → cell.
fn cells(text: &str) -> Vec<BTreeMap<String, String>> {
    let split = |line: &str| -> Vec<String> {
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut lines = text.lines();
    let header = lines.next().map(split).unwrap_or_default();
    lines
        .map(|line| header.iter().cloned().zip(split(line)).collect())
        .collect()
}

fn answer(response: &Value) -> Answer<Vec<Proxy>> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let proxies = response["clients"].as_array().into_iter().flatten().map(|client| {
        let states = client["syncStatus"].as_object().into_iter().flatten();
        let states = states.filter_map(|(name, state)| {
            Some((
                name.clone(),
                match state.as_str()? {
                    // Not asked for.
                    "UNKNOWN" => return None,
                    "SYNCED" => Sync::Synced,
                    "STALE" => Sync::Stale,
                    "ERROR" => Sync::Error(String::new()),
                    _ => Sync::NotSent,
                },
            ))
        });
        Proxy {
            id: text(client, "proxyID"),
            namespace: text(client, "namespace"),
            cluster: text(client, "clusterID"),
            version: text(client, "istioVersion"),
            types: states.collect(),
        }
    });
    Answer {
        instance: Instance {
            pod: text(response, "istiod"),
            revision: String::new(),
            component: "istiod".to_owned(),
        },
        result: Ok(proxies.collect()),
    }
}
