//! `istioctl proxy-status` (`ps`): every proxy, its state by configuration type, and the istiod it is connected to.
//!
//! The columns are those of the upgrade page, not of today's Istio (operators.md §1).

use std::collections::BTreeSet;
use std::time::Duration;

use api::names::{PROXY_CONTAINER, annotation};
use clap::{Args, ValueEnum};
use install::api_server::kind;
use install::object::Object;
use serde_json::{Value, json};
use status::forward::Forward;
use status::gather::{self, Answer};
use status::proxy::{Proxy, Sync, TYPES};

use crate::cli::{Global, duration};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::table::{columns, row};

/// Spaces between columns: two at least, as the page's awk command wants; Istio's are five.
const PADDING: usize = 5;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// Only this proxy: `<pod>[.<namespace>]`, or `<type>/<name>`.
    proxy: Option<String>,
    /// Only proxies of this revision's control plane.
    #[arg(short, long)]
    revision: Option<String>,
    /// Output format.
    #[arg(short, long, default_value = "table")]
    output: Format,
    /// More columns: configuration types beyond the usual five.
    #[arg(short, long, default_value_t = 0)]
    verbosity: u8,
    /// How long each istiod may take to answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

/// Prints the status.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let cluster = Cluster::connect(global).await?;
    let system = &global.istio_namespace;
    let instances = cluster.istiods(system, flags.revision.as_deref()).await?;
    if instances.is_empty() {
        return Err(Failure::new(match &flags.revision {
            Some(revision) => format!("no running Istio pods of revision {revision:?} in {system:?}"),
            None => format!("no running Istio pods in {system:?}"),
        }));
    }
    let ask = Forward::new(cluster.client(), system);
    let mut answers = gather::proxies(&ask, &instances, flags.timeout).await;
    let silent: Vec<&Answer<Vec<Proxy>>> = answers.iter().filter(|answer| answer.result.is_err()).collect();
    for answer in &silent {
        let error = answer.result.as_ref().err().map(String::as_str).unwrap_or_default();
        anstream::eprintln!(
            "❗ {} (revision {}) did not answer, its proxies are missing here: {error}",
            answer.instance.pod,
            answer.instance.revision
        );
    }
    if silent.len() == answers.len() {
        return Err(Failure::new("no control plane answered"));
    }
    let complete = silent.is_empty() && flags.revision.is_none();
    if let Some(namespace) = &global.namespace {
        retain(&mut answers, |proxy| proxy.namespace() == namespace);
    }
    if let Some(wanted) = &flags.proxy {
        let names = pods_named(&cluster, global, wanted).await?;
        retain(&mut answers, |proxy| names.contains(&proxy.id));
        if answers
            .iter()
            .all(|answer| answer.result.as_ref().is_ok_and(Vec::is_empty))
        {
            return Err(Failure::new(format!(
                "{wanted} is connected to no control plane that answered"
            )));
        }
    }
    match flags.output {
        Format::Table => anstream::print!("{}", table(&answers, flags.verbosity > 0)),
        Format::Json => anstream::println!("{}", serde_json::to_string_pretty(&document(&answers))?),
        Format::Yaml => anstream::println!("{}", install::yaml::to_sorted(&document(&answers))),
    }
    rejections(&answers);
    if complete && flags.proxy.is_none() {
        lost(&cluster, global, &answers).await;
    }
    Ok(())
}

fn retain(answers: &mut [Answer<Vec<Proxy>>], keep: impl Fn(&Proxy) -> bool) {
    for proxies in answers.iter_mut().filter_map(|answer| answer.result.as_mut().ok()) {
        proxies.retain(&keep);
    }
}

/// Ids of the proxies that a name stands for.
async fn pods_named(cluster: &Cluster, global: &Global, name: &str) -> Result<BTreeSet<String>, Failure> {
    let default = global.namespace.as_deref().unwrap_or(&cluster.default_namespace);
    Ok(crate::command::proxy_config::target::pods(cluster, name, default)
        .await?
        .into_iter()
        .map(|pod| format!("{}.{}", pod.name, pod.namespace))
        .collect())
}

/// The table; rows sorted by name.
pub fn table(answers: &[Answer<Vec<Proxy>>], more: bool) -> String {
    let mut further = BTreeSet::new();
    if more {
        let proxies = answers
            .iter()
            .filter_map(|answer| answer.result.as_ref().ok())
            .flatten();
        further.extend(
            proxies
                .flat_map(|proxy| proxy.types.keys())
                .filter(|name| TYPES.iter().all(|(short, ..)| short != name)),
        );
    }
    let mut header = row(["NAME", "CLUSTER"]);
    header.extend(TYPES.iter().map(|(short, ..)| (*short).to_owned()));
    header.extend(
        further
            .iter()
            .map(|url| url.rsplit('.').next().unwrap_or(url).to_owned()),
    );
    header.extend(row(["ISTIOD", "VERSION"]));
    let mut rows = Vec::new();
    for answer in answers {
        for proxy in answer.result.iter().flatten() {
            let mut cells = vec![proxy.id.clone(), proxy.cluster.clone()];
            cells.extend(TYPES.iter().map(|(short, ..)| proxy.state(short).word().to_owned()));
            cells.extend(further.iter().map(|url| proxy.state(url).word().to_owned()));
            cells.extend([answer.instance.pod.clone(), proxy.version.clone()]);
            rows.push(cells);
        }
    }
    rows.sort();
    rows.insert(0, header);
    columns(&rows, PADDING)
}

fn document(answers: &[Answer<Vec<Proxy>>]) -> Value {
    answers
        .iter()
        .map(|answer| {
            let mut value = json!({"istiod": answer.instance.pod, "revision": answer.instance.revision});
            match &answer.result {
                Ok(proxies) => value["proxies"] = serde_json::to_value(proxies).unwrap_or_default(),
                Err(error) => value["error"] = error.clone().into(),
            }
            value
        })
        .collect()
}

/// Why a proxy refused its configuration, which the table has no room for.
fn rejections(answers: &[Answer<Vec<Proxy>>]) {
    for proxy in answers
        .iter()
        .filter_map(|answer| answer.result.as_ref().ok())
        .flatten()
    {
        for (name, state) in &proxy.types {
            if let Sync::Error(error) = state {
                anstream::eprintln!(
                    "❗ {} refuses its {name} and runs on with the last good one: {error}",
                    proxy.id
                );
            }
        }
    }
}

/// Pods with a proxy that is connected nowhere.
async fn lost(cluster: &Cluster, global: &Global, answers: &[Answer<Vec<Proxy>>]) {
    let known: BTreeSet<&str> = answers
        .iter()
        .filter_map(|answer| answer.result.as_ref().ok())
        .flatten()
        .map(|proxy| proxy.id.as_str())
        .collect();
    let mut pods = kind("", "v1", "Pod");
    pods.namespace = global.namespace.clone().unwrap_or_default();
    let Ok(pods) = cluster.server.list(&pods, "").await else {
        return;
    };
    let missing: Vec<String> = pods
        .iter()
        .filter(|pod| has_running_proxy(pod))
        .map(|pod| format!("{}.{}", pod.name(), pod.namespace()))
        .filter(|id| !known.contains(id.as_str()))
        .collect();
    if !missing.is_empty() {
        anstream::eprintln!(
            "❗ Proxies that are connected to no control plane:\n  {}",
            missing.join("\n  ")
        );
    }
}

fn has_running_proxy(pod: &Object) -> bool {
    let has = |list: &str| {
        let containers = pod.0.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        containers
            .into_iter()
            .flatten()
            .any(|container| container["name"] == PROXY_CONTAINER)
    };
    let injected = pod
        .0
        .pointer("/metadata/annotations")
        .is_some_and(|a| a.get(annotation::STATUS).is_some() || a.get(annotation::REVISION).is_some());
    injected
        && pod.text("/status/phase") == "Running"
        && (has("containers") || has("initContainers"))
        && pod.0.pointer("/metadata/deletionTimestamp").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use status::gather::Instance;
    use std::collections::BTreeMap;

    fn answer(pod: &str, proxies: &[(&str, &str)]) -> Answer<Vec<Proxy>> {
        let proxies = proxies.iter().map(|(id, version)| {
            let mut types: BTreeMap<String, Sync> = ["CDS", "LDS", "EDS", "RDS"]
                .map(|t| (t.to_owned(), Sync::Synced))
                .into();
            types.insert("ECDS".to_owned(), Sync::NotSent);
            Proxy {
                id: (*id).to_owned(),
                cluster: "Kubernetes".to_owned(),
                version: (*version).to_owned(),
                types,
            }
        });
        Answer {
            instance: Instance {
                pod: pod.to_owned(),
                revision: String::new(),
                component: String::new(),
            },
            result: Ok(proxies.collect()),
        }
    }

    #[test]
    fn the_table_of_the_upgrade_page() {
        let answers = [
            answer(
                "istiod-1-22-1-bdf5948d5-n72r2",
                &[("sleep-78ff5975c6-8kxpl.app-ns-1", "1.22.1")],
            ),
            answer(
                "istiod-1-23-1-7f6fc6cfd6-s8zfg",
                &[("sleep-78ff5975c6-62pzf.app-ns-3", "1.23.1")],
            ),
        ];
        let text = table(&answers, false);
        assert_eq!(
            text,
            "NAME                                CLUSTER        CDS        LDS        EDS        RDS        ECDS         ISTIOD                             VERSION\n\
             sleep-78ff5975c6-62pzf.app-ns-3     Kubernetes     SYNCED     SYNCED     SYNCED     SYNCED     NOT SENT     istiod-1-23-1-7f6fc6cfd6-s8zfg     1.23.1\n\
             sleep-78ff5975c6-8kxpl.app-ns-1     Kubernetes     SYNCED     SYNCED     SYNCED     SYNCED     NOT SENT     istiod-1-22-1-bdf5948d5-n72r2      1.22.1\n"
        );
        // What the page's awk -F '[[:space:]][[:space:]]+' '{print $8}' prints.
        let eighth: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split("  ").filter(|c| !c.is_empty()).nth(7))
            .map(str::trim)
            .collect();
        assert_eq!(
            eighth,
            [
                "ISTIOD",
                "istiod-1-23-1-7f6fc6cfd6-s8zfg",
                "istiod-1-22-1-bdf5948d5-n72r2"
            ]
        );
    }
}
