//! Golden set `istioctl`: commands, what the cluster or files contain, and the output or effect.
//!
//! Commands run on a cluster that has just the objects of their case, or on what the libraries decide from them. Groups
//! that are not attempted yet say so.

mod cluster;
mod commands;
mod proxy_status;
mod tags;

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::data::cases;
use crate::report;

/// Keys differ from group to group; each takes its own.
#[derive(Deserialize)]
struct Case {
    name: String,
    args: Vec<String>,
    #[serde(flatten)]
    more: Value,
}

impl Case {
    fn text(&self, key: &str) -> &str {
        self.more.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.more.get(key).and_then(Value::as_bool)
    }

    fn list(&self, key: &str) -> impl Iterator<Item = &Value> {
        self.more.get(key).and_then(Value::as_array).into_iter().flatten()
    }
}

/// Runs every case of `<data>/istioctl`.
///
/// # Errors
/// If the set itself cannot be read.
pub fn run(data: &Path) -> Result<Vec<report::Case>, String> {
    let folder = data.join("istioctl");
    let cases: Vec<Case> = cases(&folder.join("cases.yaml"))?;
    Ok(cases
        .into_iter()
        .map(|case| {
            let result = check(&case, &folder);
            report::Case::new(case.name, result)
        })
        .collect())
}

fn check(case: &Case, folder: &Path) -> Result<(), String> {
    let group = case.name.split('/').next().unwrap_or_default();
    match group {
        "proxy-config" | "proxy-config-cli" | "proxy-status-cli" | "authz-check" | "waypoint" | "kube-inject" => {
            commands::check(case, folder)
        }
        "workload-entry" if case.more.get("goldens").is_some() => commands::workload_entry(case, folder),
        group if group.starts_with("workload-") => commands::check(case, folder),
        "proxy-status" => proxy_status::check(case, folder),
        "proxy-status-diff" => proxy_status::diff(case, folder),
        "check-inject" => commands::check_inject(case, folder),
        "analyze" => commands::analyze(case, folder),
        "precheck" => precheck(case),
        group if group.starts_with("tag-") => tags::check(case, folder),
        _ => Err(format!("unsupported: group {group}")),
    }
}

fn same(expected: &str, actual: &str) -> Result<(), String> {
    if expected.trim_end() == actual.trim_end() {
        return Ok(());
    }
    let (mut a, mut b) = (expected.trim_end().lines(), actual.trim_end().lines());
    for line in 1.. {
        match (a.next(), b.next()) {
            (None, None) => break,
            (e, a) if e != a => return Err(format!("line {line}: expected {e:?}, got {a:?}")),
            _ => {}
        }
    }
    Err("line ends differ".to_owned())
}

/// Runs a command's future.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    Ok(runtime.block_on(future))
}

fn precheck(case: &Case) -> Result<(), String> {
    let version = case
        .args
        .iter()
        .skip_while(|argument| *argument != "--from-version")
        .nth(1);
    let version = version.ok_or("unsupported: precheck without --from-version")?;
    let fails = analyze::precheck::minor_version(version).is_err();
    if Some(fails) == case.flag("fails") {
        Ok(())
    } else {
        Err(format!("fails: {fails}"))
    }
}
