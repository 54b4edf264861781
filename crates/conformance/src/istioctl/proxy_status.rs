//! The status table. Its columns are those of the upgrade page (operators.md §1), so the goldens of today's Istio are
//! compared cell by cell: what both tables have must agree.

use std::collections::BTreeMap;
use std::path::Path;

use istioctl::command::proxy_status::show::table;
use serde_json::Value;
use status::gather::{Answer, Instance};
use status::proxy::{Proxy, Sync};

use super::{Case, read};

pub(super) fn check(case: &Case, folder: &Path) -> Result<(), String> {
    let golden = case.text("golden");
    if golden.ends_with(".json") {
        return Err("unsupported: Istio prints raw discovery responses, one per istiod".to_owned());
    }
    let answers: Vec<Answer<Vec<Proxy>>> = case.list("responses").map(answer).collect();
    let ours = cells(&table(&answers, false));
    let theirs = cells(&read(&folder.join(golden))?);
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
                    "SYNCED" => Sync::Synced,
                    "STALE" => Sync::Stale,
                    "ERROR" => Sync::Error(String::new()),
                    _ => Sync::NotSent,
                },
            ))
        });
        Proxy {
            id: text(client, "proxyID"),
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
