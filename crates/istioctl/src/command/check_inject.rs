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
use crate::unanswered;

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
    put(&text(global, &flags).await?);
    Ok(())
}

/// What is printed.
pub async fn text(global: &Global, flags: &Flags) -> Result<String, Failure> {
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
    let labels = injection::namespace_labels(&cluster, &namespace).await?;
    let injectors = injection::injectors(&cluster).await?;
    if injectors.is_empty() {
        return Ok("ERROR: no Istio injection hooks present.\n".to_owned());
    }
    let mut rows = vec![row(["WEBHOOK", "REVISION", "INJECTED", "REASON"])];
    let mut hits = Vec::new();
    for injector in &injectors {
        let verdict = judge(injector, &pod, &labels);
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
    let mut problems = Vec::new();
    if hits.len() > 1 {
        problems.push("ERROR: multiple webhooks will inject, which can lead to errors".to_owned());
    }
    let (asleep, system) = (
        injection::asleep(&cluster, &global.istio_namespace).await,
        &global.istio_namespace,
    );
    let refusals = hits
        .iter()
        .filter_map(|revision| Some(injection::refusal(revision, *asleep.get(*revision)?, system)));
    problems.extend(refusals);
    problems.extend(unanswered::told(&namespace, &labels, &pod, &injectors).filter(|_| hits.is_empty()));
    problems.extend(injection::disagreement(&injectors));
    let problems: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    Ok(columns(&rows, 1) + &problems)
}

fn parse(text: &str) -> Result<Labels, Failure> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let parts = pair.split_once('=').filter(|(key, _)| !key.is_empty());
        parts.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or(pair)
    });
    let labels: Result<Labels, &str> = pairs.collect();
    labels.map_err(|pair| Failure::new(format!("{pair:?} is no label; write key=value")))
}
