//! `istioctl explain injection`: who injects a workload, by which rule, and why not the others.

use clap::{Args, Subcommand, ValueEnum};
use install::api_server::kind;
use revision::decision::{Decision, Match, PodView, Policy, Skip, decide};
use revision::selector::Labels;
use revision::webhook::Rule;
use serde_json::{Value, json};

use super::injection::{self, Subject};
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::table::{columns, row};

/// What is explained.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Explains which revision injects a pod, a workload or a namespace, and why.
    Injection(Flags),
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// `[<type>/]<name>[.<namespace>]`, or `namespace/<name>`.
    workload: String,
    /// Output format.
    #[arg(short, long, default_value = "text")]
    output: Format,
}

/// Runs it.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let Command::Injection(flags) = command;
    let cluster = Cluster::connect(global).await?;
    let default = global
        .namespace
        .clone()
        .unwrap_or_else(|| cluster.default_namespace.clone());
    let subject = injection::find(&cluster, &flags.workload, &default).await?;
    let namespace = injection::namespace_labels(&cluster, &subject.namespace).await?;
    let injectors = injection::injectors(&cluster).await?;
    let labels = subject.labels.clone().unwrap_or_default();
    let decision = decide(&namespace, &labels, &injectors);
    let skip = skip(&subject, &labels);
    let running = running(&cluster, &subject).await?;
    match flags.output {
        Format::Text => print(&subject, &decision, skip, &running),
        format => {
            let value = value(&subject, &decision, skip, &running);
            match format {
                Format::Json => anstream::println!("{}", serde_json::to_string_pretty(&value)?),
                _ => anstream::print!("{}", install::yaml::to_sorted(&value)),
            }
        }
    }
    Ok(())
}

/// What istiod itself decides once it is called, with the policy that the charts set.
fn skip(subject: &Subject, labels: &Labels) -> Option<Skip> {
    let policy = Policy {
        policy: "enabled".to_owned(),
        ..Policy::default()
    };
    let pod = PodView {
        namespace: &subject.namespace,
        labels,
        annotations: &subject.annotations,
        host_network: subject.host_network,
    };
    policy.admits(pod).err()
}

/// A running pod and the revision that injected it, if any.
struct Running {
    pod: String,
    revision: Option<String>,
}

async fn running(cluster: &Cluster, subject: &Subject) -> Result<Vec<Running>, Failure> {
    let mut pods = kind("", "v1", "Pod");
    subject.namespace.clone_into(&mut pods.namespace);
    let wanted = subject
        .labels
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"));
    let selector = wanted.collect::<Vec<_>>().join(",");
    let found = cluster.server.list(&pods, &selector).await?;
    let revision = |pod: &install::object::Object| {
        let status = pod
            .0
            .pointer("/metadata/annotations/sidecar.istio.io~1status")?
            .as_str()?;
        let status: Value = serde_json::from_str(status).ok()?;
        status["revision"].as_str().map(str::to_owned)
    };
    Ok(found
        .iter()
        .map(|pod| Running {
            pod: pod.name().to_owned(),
            revision: revision(pod),
        })
        .collect())
}

/// The rule in words, with the label that made it fire.
fn rule(winner: &Match) -> String {
    let name = winner.tag.as_deref().unwrap_or(&winner.revision);
    match winner.rule {
        Some(Rule::NamespaceInjection) => "the namespace has label istio-injection=enabled".to_owned(),
        Some(Rule::NamespaceRevision) => format!("the namespace has label istio.io/rev={name}"),
        Some(Rule::PodRevision) => format!("the pod has label istio.io/rev={name}"),
        Some(Rule::PodInjection) => "the pod has label sidecar.istio.io/inject=true".to_owned(),
        Some(Rule::Automatic) => "the installation injects every namespace that says nothing".to_owned(),
        None => format!("webhook {} is not one of Istio's", winner.webhook),
    }
}

fn skip_reason(skip: Skip) -> &'static str {
    match skip {
        Skip::HostNetwork => "the pod uses the node's network, which cannot be redirected",
        Skip::IgnoredNamespace => "the namespace is one of Kubernetes' own",
        Skip::Refused => "sidecar.istio.io/inject is false",
        Skip::NeverSelector => "neverInjectSelector of the injector configuration matches",
        Skip::PolicyDisabled => "the injection policy is disabled",
        Skip::PolicyUnknown => "the injection policy has an unknown value",
    }
}

fn headline(subject: &Subject, decision: &Decision, skip: Option<Skip>) -> String {
    let place = format!("{} in namespace {}", subject.title, subject.namespace);
    match (decision.matches.as_slice(), skip) {
        ([], _) => format!("{place}: not injected; no webhook selects it"),
        ([winner], None) => format!("{place}: injected by revision {}", winner.revision),
        ([winner], Some(skip)) => {
            format!(
                "{place}: not injected; revision {} is asked, but {}",
                winner.revision,
                skip_reason(skip)
            )
        }
        (several, _) => format!(
            "{place}: {} webhooks select it, which can lead to errors",
            several.len()
        ),
    }
}

fn print(subject: &Subject, decision: &Decision, skip: Option<Skip>, running: &[Running]) {
    anstream::println!("{}", headline(subject, decision, skip));
    for winner in &decision.matches {
        let via = winner
            .tag
            .as_ref()
            .map(|tag| format!(", tag {tag}"))
            .unwrap_or_default();
        anstream::println!(
            "  because {} (webhook {} of {}{via})",
            rule(winner),
            winner.webhook,
            winner.config
        );
    }
    if !decision.misses.is_empty() {
        anstream::println!("\nThe others do not:");
        let rows: Vec<Vec<String>> = std::iter::once(row(["WEBHOOK", "REVISION", "REASON"]))
            .chain(
                decision
                    .misses
                    .iter()
                    .map(|miss| row([&miss.config, &miss.revision, &miss.reason.to_string()])),
            )
            .collect();
        anstream::print!("{}", columns(&rows, 2));
    }
    if !running.is_empty() {
        anstream::println!("\nRunning pods:");
        let next = decision.revision().filter(|_| skip.is_none());
        let rows: Vec<Vec<String>> = std::iter::once(row(["POD", "INJECTED BY", "AT THE NEXT RESTART"]))
            .chain(running.iter().map(|pod| {
                let now = pod.revision.as_deref();
                let then = if now == next {
                    "unchanged"
                } else {
                    next.unwrap_or("not injected")
                };
                row([&pod.pod, now.unwrap_or("-"), then])
            }))
            .collect();
        anstream::print!("{}", columns(&rows, 2));
    }
}

fn value(subject: &Subject, decision: &Decision, skip: Option<Skip>, running: &[Running]) -> Value {
    json!({
        "workload": subject.title,
        "namespace": subject.namespace,
        "revision": decision.revision().filter(|_| skip.is_none()),
        "skipped": skip.map(skip_reason),
        "matches": decision.matches.iter().map(|m| json!({
            "webhookConfiguration": m.config, "webhook": m.webhook, "revision": m.revision, "tag": m.tag, "rule": rule(m),
        })).collect::<Vec<_>>(),
        "misses": decision.misses.iter().map(|m| json!({
            "webhookConfiguration": m.config, "revision": m.revision, "reason": m.reason.to_string(),
        })).collect::<Vec<_>>(),
        "pods": running.iter().map(|r| json!({"name": r.pod, "revision": r.revision})).collect::<Vec<_>>(),
    })
}
