//! `istioctl proxy-status` (`ps`): every proxy, its state by configuration type, and the istiod it is connected to.
//!
//! The columns are those of the upgrade page (operators.md §1); those of today's Istio are `-o types`, and `-v 1`. Whatever could not be found out is
//! said, never left out silently.

pub mod diff;
pub mod show;
pub mod types;
pub mod unconnected;

use std::collections::BTreeSet;
use std::time::Duration;

use api::names::port;
use clap::{Args, ValueEnum};
use serde_json::Value;
use status::forward::{Forward, LARGEST_ANSWER};
use status::gather::{self, Answer, Ask, Instance};
use status::proxy::Proxy;

use self::unconnected::{Pods, Unconnected};
use super::injection::no_namespace;
use super::proxy_config::target::{self, Pod};
use crate::cli::{Global, duration, port_number};
use crate::cluster::{Cluster, within};
use crate::command::install::whole;
use crate::control_planes::{ControlPlanes, Discovery};
use crate::failure::Failure;
use crate::out;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The state of the usual configuration types.
    Table,
    /// The types that each proxy subscribes to, which is what today's Istio shows.
    Types,
    /// JSON, one document for each istiod as Istio prints it.
    Json,
    /// YAML, the same.
    Yaml,
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// Compares what this proxy has with what its istiod sent: `<pod>[.<namespace>]`, or `<type>/<name>`.
    proxy: Option<String>,
    /// Only proxies of the control plane of this revision or tag.
    #[arg(short, long)]
    revision: Option<String>,
    /// Output format.
    #[arg(short, long, default_value = "table")]
    output: Format,
    /// With 1: all configuration types in the order of today's Istio, IGNORED where a proxy does not ask for one.
    #[arg(short, long, default_value_t = 0)]
    verbosity: u8,
    /// How long each istiod, and the API server, may take to answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// A configuration dump of Envoy instead of the proxy's own (`-` is standard input).
    #[arg(long, value_name = "FILE", requires = "proxy")]
    file: Option<String>,
    /// Port of Envoy's administration interface.
    #[arg(long, default_value_t = port::PROXY_ADMIN, value_parser = port_number)]
    proxy_admin_port: u16,
    #[command(flatten)]
    discovery: Discovery,
}

/// What is printed, and what went wrong beside it.
#[derive(Debug, Default)]
pub struct Report {
    /// For standard output.
    pub text: String,
    /// For standard error: the table of pods that no control plane knows. Whoever filters the first one by columns does
    /// not meet the second.
    pub lost: String,
    /// For standard error: what is missing in it.
    pub notes: Vec<String>,
    /// How it fails.
    pub failure: Option<Failure>,
}

/// Prints the status.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let report = report(global, &flags).await?;
    out::put(&report.text);
    anstream::eprint!("{}", report.lost);
    for note in report.notes {
        anstream::eprintln!("❗ {note}");
    }
    report.failure.map_or(Ok(()), Err)
}

/// Finds out the status.
pub async fn report(global: &Global, flags: &Flags) -> Result<Report, Failure> {
    let cluster = Cluster::connect(global).await?;
    let system = &global.istio_namespace;
    let proxy = match &flags.proxy {
        Some(name) => target::pods(&cluster, name, cluster.namespace(global))
            .await?
            .into_iter()
            .next(),
        None => None,
    };
    let planes = ControlPlanes::find(&cluster, system, flags.revision.as_deref(), &flags.discovery).await?;
    let ask = Forward::new(cluster.reach.clone(), system);
    match proxy {
        Some(_) if planes.asked.is_empty() => Err(planes.nobody()),
        Some(pod) => one(&cluster, &ask, &planes.asked, flags, &pod).await,
        None => every(&cluster, &ask, &planes, global, flags).await,
    }
}

async fn every(
    cluster: &Cluster,
    ask: &Forward,
    planes: &ControlPlanes,
    global: &Global,
    flags: &Flags,
) -> Result<Report, Failure> {
    let pods = within(flags.timeout, unconnected::read(cluster, global));
    let (mut answers, pods) = futures::join!(gather::proxies(ask, &planes.asked, flags.timeout), pods);
    let mut report = Report::default();
    let silent = silent(&answers, &mut report);
    if answers.is_empty() {
        report.failure = Some(planes.nobody());
    } else if silent == answers.len() {
        report.failure = Some(Failure::new("no control plane answered"));
    }
    if let (Some(namespace), Ok(Pods { nowhere: true, .. })) = (&global.namespace, &pods) {
        return Err(no_namespace(namespace));
    }
    let lost = match pods {
        Ok(_) if planes.leaves_out() => Vec::new(),
        Ok(mut pods) => {
            // Where the proxies of other revisions are connected was not asked.
            if let Some(revision) = planes.revision() {
                pods.pods.retain(|pod| unconnected::revision(pod) == revision);
            }
            let planes = unconnected::Planes {
                instances: &planes.all,
                answers: &answers,
            };
            unconnected::carry(cluster, &mut pods, &planes, flags.timeout).await;
            unconnected::find(&pods, &planes)
        }
        Err(failure) => {
            report.notes.push(format!(
                "pods cannot be listed, so that proxies without a control plane are not shown: {}",
                failure.message()
            ));
            Vec::new()
        }
    };
    if let Some(namespace) = &global.namespace {
        for proxies in answers.iter_mut().filter_map(|answer| answer.result.as_mut().ok()) {
            proxies.retain(|proxy| proxy.namespace == *namespace);
        }
        let proxies = answers.iter().flat_map(|answer| answer.result.iter().flatten());
        if report.failure.is_none() && silent == 0 && lost.is_empty() && !planes.leaves_out() && proxies.count() == 0 {
            report.notes.push(nobody(namespace, planes.revision()));
        }
    }
    report.notes.extend(show::rejections(&answers));
    report.text = match flags.output {
        Format::Table | Format::Types => {
            if !lost.is_empty() {
                report.lost = unconnected::table(&lost, silent > 0);
            }
            // A table of nobody's answers would look like that of a mesh without proxies.
            if report.failure.is_some() {
                String::new()
            } else {
                table(&answers, flags)
            }
        }
        format => {
            let versions = gather::versions(ask, &planes.asked, flags.timeout).await;
            let mut documents = show::documents(&answers, &versions);
            documents.extend(missing(&answers, &lost));
            write(format, &documents)?
        }
    };
    Ok(report)
}

/// That a namespace has no proxies, so that an empty table is no riddle.
fn nobody(namespace: &str, revision: Option<&str>) -> String {
    match revision {
        Some(revision) => {
            format!("no proxy in namespace {namespace} is connected to revision {revision}, and none should be")
        }
        None => format!(
            "no pod in namespace {namespace} has a proxy; istioctl explain injection namespace/{namespace} says why"
        ),
    }
}

/// The table that is asked for.
pub fn table(answers: &[Answer<Vec<Proxy>>], flags: &Flags) -> String {
    match (flags.verbosity, flags.output) {
        (0, Format::Types) => types::subscribed(answers),
        (0, _) => show::table(answers),
        _ => types::states(answers),
    }
}

/// Notes who did not answer, and counts them.
fn silent(answers: &[Answer<Vec<Proxy>>], report: &mut Report) -> usize {
    let before = report.notes.len();
    for answer in answers {
        if let Err(error) = &answer.result {
            report.notes.push(format!(
                "{} (revision {}) did not answer, its proxies are missing here: {error}",
                answer.instance.pod, answer.instance.revision
            ));
        }
    }
    report.notes.len() - before
}

/// A last document that says what the others cannot hold.
fn missing(answers: &[Answer<Vec<Proxy>>], lost: &[Unconnected]) -> Option<Value> {
    let unanswered: Vec<Value> = answers
        .iter()
        .filter_map(|answer| {
            let error = answer.result.as_ref().err()?;
            let instance = &answer.instance;
            Some(serde_json::json!({"istiod": instance.pod, "revision": instance.revision, "error": error}))
        })
        .collect();
    (!unanswered.is_empty() || !lost.is_empty()).then(|| {
        serde_json::json!({"typeUrl": "trysail.dev/proxy-status/missing", "unanswered": unanswered, "notConnected": lost})
    })
}

fn write(format: Format, documents: &[Value]) -> Result<String, Failure> {
    let mut text = String::new();
    for document in documents {
        if format == Format::Yaml {
            text.push_str("---\n");
            text.push_str(&install::yaml::to_sorted(document));
        } else {
            text.push_str(&show::json(document)?);
        }
        text.push('\n');
    }
    Ok(text)
}

/// One proxy: its line, and what it has against what was sent.
async fn one(
    cluster: &Cluster,
    ask: &Forward,
    instances: &[Instance],
    flags: &Flags,
    pod: &Pod,
) -> Result<Report, Failure> {
    let id = format!("{}.{}", pod.name, pod.namespace);
    let envoy = async {
        let body = match &flags.file {
            Some(file) => whole(file, LARGEST_ANSWER)?.into(),
            None => cluster
                .envoy(&pod.port(flags.proxy_admin_port), "GET", "/config_dump", flags.timeout)
                .await
                .map_err(|error| Failure::new(format!("could not contact sidecar: {}", error.message())))?,
        };
        serde_json::from_slice::<Value>(&body)
            .map_err(|error| Failure::new(format!("the proxy's configuration dump is no JSON: {error}")))
    };
    let (mut answers, envoy) = futures::join!(gather::proxies(ask, instances, flags.timeout), envoy);
    let mut report = Report::default();
    silent(&answers, &mut report);
    for proxies in answers.iter_mut().filter_map(|answer| answer.result.as_mut().ok()) {
        proxies.retain(|proxy| proxy.id == id);
    }
    let holders: BTreeSet<&str> = answers
        .iter()
        .filter(|answer| answer.result.as_ref().is_ok_and(|proxies| !proxies.is_empty()))
        .map(|answer| answer.instance.pod.as_str())
        .collect();
    let Some(holder) = holders.first() else {
        let mut why = format!("{id} is connected to no control plane that answered");
        for note in &report.notes {
            why.push_str(&format!("\n  {note}"));
        }
        return Err(Failure::new(why));
    };
    let asked = tokio::time::timeout(
        flags.timeout,
        ask.ask(holder, &format!("/debug/config_dump?proxyID={id}")),
    )
    .await;
    let sent = asked
        .map_err(|_| {
            Failure::new(format!(
                "{holder} does not say within {:?} what it sent to {id}",
                flags.timeout
            ))
        })?
        .map_err(Failure::new)?;
    let istiod: Value = serde_json::from_slice(&sent)
        .map_err(|error| Failure::new(format!("unable to find config dump in Istiod responses: {error}")))?;
    let sections = diff::compare(&istiod, &envoy?)?;
    report.notes.extend(show::rejections(&answers));
    report.text = match flags.output {
        Format::Table | Format::Types => format!("{}\n{}", table(&answers, flags), diff::text(&sections)),
        format => {
            let document = serde_json::json!({"proxy": id, "istiod": holder, "comparison": sections});
            write(format, &[document])?
        }
    };
    Ok(report)
}
