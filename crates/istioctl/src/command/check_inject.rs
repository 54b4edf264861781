//! `istioctl experimental check-inject`: what every injector says of a pod (revisions.md §5.9).

use clap::Args;
use revision::selector::Labels;
use revision::verdict::judge;

use super::injection;
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::out::put;
use crate::table::{columns, row};

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// The workload: `[<type>/]<name>[.<namespace>]`.
    #[arg(required_unless_present = "labels")]
    workload: Option<String>,
    /// Labels of a pod that need not exist, for example app=a,version=v1.
    #[arg(short, long, conflicts_with = "workload", value_name = "KEY=VALUE,…")]
    labels: Option<String>,
}

/// Checks.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let namespace = global
        .namespace
        .clone()
        .unwrap_or_else(|| cluster.default_namespace.clone());
    let (pod, namespace) = match (&flags.labels, &flags.workload) {
        (Some(labels), _) => (parse(labels)?, namespace),
        (None, Some(workload)) => {
            let subject = injection::find(&cluster, workload, &namespace).await?;
            (subject.labels.unwrap_or_default(), subject.namespace)
        }
        (None, None) => return Err(Failure::new("name a workload, or give labels with -l")),
    };
    let namespace = injection::namespace_labels(&cluster, &namespace).await?;
    let injectors = injection::injectors(&cluster).await?;
    if injectors.is_empty() {
        put("ERROR: no Istio injection hooks present.\n");
        return Ok(());
    }
    let mut rows = vec![row(["WEBHOOK", "REVISION", "INJECTED", "REASON"])];
    let mut hits = Vec::new();
    for injector in &injectors {
        let verdict = judge(injector, &pod, &namespace);
        if verdict.injected {
            hits.push(injector.revision.as_str());
        }
        rows.push(row([
            &injector.config,
            &injector.revision,
            if verdict.injected { "✔" } else { "✘" },
            &verdict.reason,
        ]));
    }
    put(&columns(&rows, 1));
    if hits.len() > 1 {
        put("ERROR: multiple webhooks will inject, which can lead to errors\n");
    }
    let asleep = injection::asleep(&cluster, &global.istio_namespace).await;
    for revision in &hits {
        if let Some(absence) = asleep.get(*revision) {
            put(&format!(
                "{}\n",
                injection::refusal(revision, *absence, &global.istio_namespace)
            ));
        }
    }
    if let Some(disagreement) = injection::disagreement(&injectors) {
        put(&format!("{disagreement}\n"));
    }
    Ok(())
}

fn parse(text: &str) -> Result<Labels, Failure> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let parts = pair.split_once('=').filter(|(key, _)| !key.is_empty());
        parts.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or(pair)
    });
    let labels: Result<Labels, &str> = pairs.collect();
    labels.map_err(|pair| Failure::new(format!("{pair:?} is no label; write key=value")))
}
