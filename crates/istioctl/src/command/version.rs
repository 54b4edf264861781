//! `istioctl version`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use serde_json::json;
use status::forward::Forward;
use status::gather::{self, Answer};
use status::proxy::Proxy;
use status::version::Build;

use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::program_version;
use crate::failure::Failure;

/// How long an istiod may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Output format.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// Only version numbers.
    #[arg(short, long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    short: bool,
    /// Ask the control planes too.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    remote: bool,
    /// Output format.
    #[arg(short, long)]
    output: Option<Format>,
    /// Only the control plane of this revision.
    #[arg(short, long)]
    revision: Option<String>,
}

/// Prints versions.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let client = program_version();
    if !flags.remote {
        return print(&flags, &client, &[], &[]);
    }
    let cluster = match Cluster::connect(global).await {
        Ok(cluster) => cluster,
        Err(failure) => {
            print(&flags, &client, &[], &[])?;
            return Err(failure);
        }
    };
    let namespace = &global.istio_namespace;
    let instances = cluster.istiods(namespace, flags.revision.as_deref()).await?;
    if instances.is_empty() && flags.output.is_none() {
        anstream::println!("Istio is not present in the cluster: no running Istio pods in namespace {namespace:?}");
        return print(&flags, &client, &[], &[]);
    }
    let ask = Forward::new(cluster.reach.clone(), namespace);
    let (versions, proxies) = futures::join!(
        gather::versions(&ask, &instances, DEADLINE),
        gather::proxies(&ask, &instances, DEADLINE)
    );
    for (instance, error) in versions
        .iter()
        .filter_map(|a| Some((&a.instance, a.result.as_ref().err()?)))
    {
        anstream::eprintln!(
            "❗ {} (revision {}) did not answer: {error}",
            instance.pod,
            instance.revision
        );
    }
    print(&flags, &client, &versions, &proxies)?;
    if flags.output.is_none() && !instances.is_empty() {
        anstream::println!("{}", data_plane(&proxies));
    }
    Ok(())
}

fn print(
    flags: &Flags,
    client: &str,
    versions: &[Answer<Build>],
    proxies: &[Answer<Vec<Proxy>>],
) -> Result<(), Failure> {
    if let Some(format) = flags.output {
        let value = document(client, versions, proxies);
        match format {
            Format::Json => anstream::println!("{}", serde_json::to_string_pretty(&value)?),
            Format::Yaml => anstream::println!("{}", install::yaml::to_sorted(&value)),
        }
        return Ok(());
    }
    anstream::println!("client version: {client}");
    for line in control_planes(versions, flags.short) {
        anstream::println!("{line}");
    }
    Ok(())
}

/// One line if all agree, else one for each.
fn control_planes(versions: &[Answer<Build>], short: bool) -> Vec<String> {
    let known: Vec<(&str, &Build)> = versions
        .iter()
        .filter_map(|a| Some((a.instance.component.as_str(), a.result.as_ref().ok()?)))
        .collect();
    let shown = |build: &Build| {
        if short {
            build.version.clone()
        } else {
            format!(
                "{} (revision {}, status {})",
                build.version, build.revision, build.status
            )
        }
    };
    let distinct: BTreeSet<&str> = known.iter().map(|(_, build)| build.version.as_str()).collect();
    match known.as_slice() {
        [] => Vec::new(),
        [(_, build), ..] if distinct.len() == 1 => vec![format!("control plane version: {}", shown(build))],
        all => all
            .iter()
            .map(|(component, build)| format!("{component} version: {}", shown(build)))
            .collect(),
    }
}

/// `data plane version: 0.1.0 (2 proxies), 0.2.0 (1 proxies)`.
fn data_plane(proxies: &[Answer<Vec<Proxy>>]) -> String {
    let counts = counts(proxies);
    if counts.is_empty() {
        return "data plane version: none".to_owned();
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(version, count)| format!("{version} ({count} proxies)"))
        .collect();
    format!("data plane version: {}", parts.join(", "))
}

fn counts(proxies: &[Answer<Vec<Proxy>>]) -> BTreeMap<&str, usize> {
    let all = proxies
        .iter()
        .filter_map(|answer| answer.result.as_ref().ok())
        .flatten();
    // A proxy that is just moving is known to two.
    let once: BTreeMap<&str, &str> = all.map(|proxy| (proxy.id.as_str(), proxy.version.as_str())).collect();
    let mut counts = BTreeMap::new();
    for version in once.values() {
        *counts
            .entry(if version.is_empty() { "unknown" } else { *version })
            .or_insert(0) += 1;
    }
    counts
}

fn document(client: &str, versions: &[Answer<Build>], proxies: &[Answer<Vec<Proxy>>]) -> serde_json::Value {
    let mut value = json!({"clientVersion": {"version": client}});
    if !versions.is_empty() {
        let known = versions
            .iter()
            .filter_map(|a| Some((&a.instance, a.result.as_ref().ok()?)));
        value["meshVersion"] = known
            .map(|(i, build)| json!({"Component": i.component, "ID": i.pod, "Revision": i.revision, "Info": build}))
            .collect();
        let all = proxies
            .iter()
            .filter_map(|answer| answer.result.as_ref().ok())
            .flatten();
        value["dataPlaneVersion"] = all
            .map(|proxy| json!({"ID": proxy.id, "IstioVersion": proxy.version}))
            .collect();
    }
    value
}
