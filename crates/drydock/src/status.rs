//! `drydock status`: the cluster at a glance; exits with 1 when it is not up.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client};

use crate::cluster_file::ClusterFile;
use crate::data_dir::DataDir;
use crate::process::Process;
use crate::{out, parts};

const PATIENCE: Duration = Duration::from_secs(5);

/// Prints how the cluster is.
///
/// # Errors
/// Its files are damaged.
pub fn run(dir: &DataDir) -> Result<ExitCode> {
    line("directory", &dir.path().display().to_string())?;
    let Some(cluster) = ClusterFile::read(dir)? else {
        line("cluster", "none: drydock up makes one")?;
        return Ok(ExitCode::FAILURE);
    };
    let Some(process) = Process::of(dir) else {
        let remedy = if cluster.is_node_alone() {
            "drydock node starts it"
        } else {
            "drydock up starts it"
        };
        line("process", &format!("not running: {remedy}"))?;
        return Ok(ExitCode::FAILURE);
    };
    let age = process
        .age()
        .map(|age| format!(" for {}", for_people(age)))
        .unwrap_or_default();
    line("process", &format!("{} running{age}", process.pid()))?;
    if cluster.is_node_alone() {
        line("node", &cluster.node)?;
        line(
            "networks",
            &format!("pods {}, services {}", cluster.pod_cidr, cluster.service_cidr),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    line("API server", &format!("https://127.0.0.1:{}", cluster.api_port))?;
    line("kubeconfig", &dir.kubeconfig().display().to_string())?;
    line(
        "networks",
        &format!("pods {}, services {}", cluster.pod_cidr, cluster.service_cidr),
    )?;
    let asked = parts::runtime()?.block_on(async { tokio::time::timeout(PATIENCE, ask(dir)).await });
    match asked.context("it does not answer").and_then(|answer| answer) {
        Ok((node, pods)) => {
            line("node", &node)?;
            line("pods", &pods)?;
            Ok(if node.ends_with(" Ready") {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Err(error) => {
            line("answer", &format!("none: {error:#}"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn line(name: &str, value: &str) -> Result<()> {
    out::line(format_args!("{name:<12} {value}"))
}

async fn ask(dir: &DataDir) -> Result<(String, String)> {
    let client = Client::try_from(parts::server(&dir.kubeconfig()).await?)?;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let pods = Api::<Pod>::all(client).list(&ListParams::default()).await?;
    let told = nodes.items.iter().map(|node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions
            .filter(|c| c.type_ == "Ready")
            .any(|condition| condition.status == "True");
        let name = node.metadata.name.as_deref().unwrap_or_default();
        format!("{name} {}", if ready { "Ready" } else { "NotReady" })
    });
    let told: Vec<_> = told.collect();
    Ok((told.join(", "), count(&pods.items)))
}

fn count(pods: &[Pod]) -> String {
    let mut phases: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in pods {
        *phases
            .entry(
                pod.status
                    .as_ref()
                    .and_then(|s| s.phase.as_deref())
                    .unwrap_or("Unknown"),
            )
            .or_default() += 1;
    }
    let told: Vec<_> = phases
        .iter()
        .map(|(phase, count)| format!("{count} {}", phase.to_lowercase()))
        .collect();
    if told.is_empty() {
        "none".into()
    } else {
        told.join(", ")
    }
}

fn for_people(age: Duration) -> String {
    match age.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_rounded() {
        let told: Vec<_> = [5, 119, 120, 7199, 7200]
            .map(|s| for_people(Duration::from_secs(s)))
            .into();
        assert_eq!(told, ["5 s", "119 s", "2 min", "119 min", "2 h"]);
    }

    #[test]
    fn pods_are_counted_by_phase() {
        let pod =
            |phase: &str| -> Pod { serde_json::from_value(serde_json::json!({"status": {"phase": phase}})).unwrap() };
        assert_eq!(
            count(&[pod("Running"), pod("Pending"), pod("Running")]),
            "1 pending, 2 running"
        );
        assert_eq!(count(&[]), "none");
    }
}
