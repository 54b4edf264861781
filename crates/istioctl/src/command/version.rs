//! `istioctl version`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use install::api_server::kind;
use install::object::Object;
use serde_json::json;
use status::forward::Forward;
use status::gather::{self, Answer};
use status::proxy::Proxy;
use status::version::Build;

use super::proxy_status::unconnected;
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::command::program_version;
use crate::control_planes::{ControlPlanes, Discovery};
use crate::failure::Failure;
use crate::out;
use crate::sides::image;
use crate::table::{columns, row};

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
    /// Only the control plane of this revision or tag.
    #[arg(short, long)]
    revision: Option<String>,
    #[command(flatten)]
    discovery: Discovery,
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
    let planes = ControlPlanes::find(&cluster, namespace, flags.revision.as_deref(), &flags.discovery).await?;
    let instances = &planes.asked;
    if instances.is_empty() {
        let orphans = orphans(&cluster, planes.revision()).await;
        let silence = match planes.revision() {
            Some(revision) => Silence::of_revision(revision, &orphans, planes.nobody()),
            None if planes.leaves_out() => Silence {
                before: String::new(),
                after: String::new(),
                failure: Some(planes.nobody()),
            },
            None => Silence::of_all(namespace, &orphans),
        };
        let for_people = |text: &str| {
            if flags.output.is_none() {
                out::put(text);
            }
        };
        for_people(&silence.before);
        print(&flags, &client, &[], &[])?;
        for_people(&silence.after);
        return silence.failure.map_or(Ok(()), Err);
    }
    let ask = Forward::new(cluster.reach.clone(), namespace);
    let (versions, proxies) = futures::join!(
        gather::versions(&ask, instances, DEADLINE),
        gather::proxies(&ask, instances, DEADLINE)
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
    if versions.iter().all(|answer| answer.result.is_err()) {
        return Err(Failure::new("no control plane answered"));
    }
    if flags.output.is_none() {
        out::put(&format!(
            "{}\n{}",
            data_plane(&proxies),
            by_revision(&versions, &proxies)
        ));
    }
    Ok(())
}

/// Versions of the proxies that a mesh without a control plane has left behind, by the tag of their image.
async fn orphans(cluster: &Cluster, revision: Option<&str>) -> BTreeMap<String, usize> {
    let pods = cluster
        .server
        .list(&kind("", "v1", "Pod"), "")
        .await
        .unwrap_or_else(|error| {
            anstream::eprintln!(
                "❗ pods cannot be listed, so that proxies without a control plane are not counted: {error}"
            );
            Vec::new()
        });
    versions_of(&pods, revision)
}

fn versions_of(pods: &[Object], revision: Option<&str>) -> BTreeMap<String, usize> {
    let of_revision = |pod: &&Object| revision.is_none_or(|revision| unconnected::revision(pod) == revision);
    let mut counts = BTreeMap::new();
    for pod in pods
        .iter()
        .filter(|pod| unconnected::should_be_connected(pod))
        .filter(of_revision)
    {
        let image = image(pod);
        let version = image.rsplit('/').next().and_then(|name| name.split_once(':'));
        let version = version.map_or("unknown", |(_, tag)| tag.split('@').next().unwrap_or(tag));
        *counts.entry(version.to_owned()).or_default() += 1;
    }
    counts
}

/// What is said where no control plane can be asked.
struct Silence {
    /// Before the client's line.
    before: String,
    /// After it.
    after: String,
    failure: Option<Failure>,
}

impl Silence {
    /// A cluster without a control plane is no failure, but for the proxies that wait for one.
    fn of_all(namespace: &str, orphans: &BTreeMap<String, usize>) -> Self {
        let failure = format!(
            "no running Istio pods in namespace {namespace:?}, but proxies that wait for one; istioctl proxy-status names them"
        );
        let counts = counts_of(orphans);
        Self {
            before: format!("Istio is not present in the cluster: no running Istio pods in namespace {namespace:?}\n"),
            after: counts
                .as_ref()
                .map(|counts| format!("data plane version: {counts}, connected to no control plane\n"))
                .unwrap_or_default(),
            failure: counts.map(|_| Failure::new(failure)),
        }
    }

    /// Somebody asked for this one; where its proxies are connected, if others run, was not asked.
    fn of_revision(revision: &str, orphans: &BTreeMap<String, usize>, failure: Failure) -> Self {
        let counts = counts_of(orphans);
        Self {
            before: String::new(),
            after: counts
                .map(|counts| format!("data plane version: {counts}, injected by revision {revision}\n"))
                .unwrap_or_default(),
            failure: Some(failure),
        }
    }
}

fn counts_of(orphans: &BTreeMap<String, usize>) -> Option<String> {
    let counts = orphans.iter().map(|(version, count)| (version.as_str(), *count));
    (!orphans.is_empty()).then(|| counted(&counts.collect()))
}

/// `0.1.0 (2 proxies), 0.2.0 (1 proxies)`.
fn counted(counts: &BTreeMap<&str, usize>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(version, count)| format!("{version} ({count} proxies)"))
        .collect();
    parts.join(", ")
}

fn print(
    flags: &Flags,
    client: &str,
    versions: &[Answer<Build>],
    proxies: &[Answer<Vec<Proxy>>],
) -> Result<(), Failure> {
    if let Some(format) = flags.output {
        let value = document(client, versions, proxies);
        let text = match format {
            Format::Json => serde_json::to_string_pretty(&value)?,
            Format::Yaml => install::yaml::to_sorted(&value),
        };
        out::put(&format!("{text}\n"));
        return Ok(());
    }
    let lines = std::iter::once(format!("client version: {client}")).chain(control_planes(versions, flags.short));
    out::put(&lines.map(|line| format!("{line}\n")).collect::<String>());
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
    format!("data plane version: {}", counted(&counts))
}

/// Control and data planes of each revision, if there are several.
fn by_revision(versions: &[Answer<Build>], proxies: &[Answer<Vec<Proxy>>]) -> String {
    let revisions: BTreeSet<&str> = versions
        .iter()
        .map(|answer| answer.instance.revision.as_str())
        .collect();
    if revisions.len() < 2 {
        return String::new();
    }
    let mut rows = vec![row(["REVISION", "CONTROL PLANE", "DATA PLANE"])];
    for revision in revisions {
        let control: BTreeSet<&str> = versions
            .iter()
            .filter(|answer| answer.instance.revision == revision)
            .map(|answer| {
                answer
                    .result
                    .as_ref()
                    .map_or("no answer", |build| build.version.as_str())
            })
            .collect();
        let own = proxies.iter().filter(|answer| answer.instance.revision == revision);
        let data = match counts(own) {
            none if none.is_empty() => "none".to_owned(),
            data => counted(&data),
        };
        rows.push(row([
            revision,
            &control.into_iter().collect::<Vec<_>>().join(", "),
            &data,
        ]));
    }
    format!("\n{}", columns(&rows, 3))
}

fn counts<'a>(proxies: impl IntoIterator<Item = &'a Answer<Vec<Proxy>>>) -> BTreeMap<&'a str, usize> {
    let all = proxies
        .into_iter()
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
        let all = proxies.iter().flat_map(|answer| {
            answer
                .result
                .iter()
                .flatten()
                .map(|proxy| (&answer.instance.revision, proxy))
        });
        value["dataPlaneVersion"] = all
            .map(|(revision, proxy)| json!({"ID": proxy.id, "IstioVersion": proxy.version, "Revision": revision}))
            .collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use status::gather::Instance;

    fn answer<T>(revision: &str, value: T) -> Answer<T> {
        Answer {
            instance: Instance {
                pod: format!("istiod-{revision}"),
                revision: revision.to_owned(),
                component: "istiod".to_owned(),
            },
            result: Ok(value),
        }
    }

    #[test]
    fn proxies_without_a_control_plane_are_counted_and_a_failure() {
        let pod = |name: &str, revision: &str, image: &str| {
            Object(
                json!({"metadata": {"name": name, "annotations": {"istio.io/rev": revision}},
                "spec": {"containers": [{"name": "istio-proxy", "image": image}]}, "status": {"phase": "Running"}}),
            )
        };
        let mut pods = vec![
            pod("a", "canary", "localhost:5000/trysail/proxyv2:0.2.0"),
            pod("b", "canary", "docker.io/trysail/proxyv2:0.2.0@sha256:00"),
            pod("c", "old", "docker.io/trysail/proxyv2:0.1.0"),
            pod("d", "old", "docker.io/trysail/proxyv2"),
            Object(json!({"metadata": {"name": "plain"}})),
        ];
        let told = |pods: &[Object], revision: Option<&str>| {
            let orphans = versions_of(pods, revision);
            let silence = match revision {
                Some(revision) => Silence::of_revision(revision, &orphans, Failure::new("none")),
                None => Silence::of_all("istio-system", &orphans),
            };
            let failure = silence.failure.map(|failure| failure.message().to_owned());
            format!("{}{}{}", silence.before, silence.after, failure.unwrap_or_default())
        };
        assert_eq!(
            told(&pods, None),
            "Istio is not present in the cluster: no running Istio pods in namespace \"istio-system\"\n\
             data plane version: 0.1.0 (1 proxies), 0.2.0 (2 proxies), unknown (1 proxies), connected to no control plane\n\
             no running Istio pods in namespace \"istio-system\", but proxies that wait for one; istioctl proxy-status names them"
        );
        assert_eq!(
            told(&pods, Some("canary")),
            "data plane version: 0.2.0 (2 proxies), injected by revision canary\nnone"
        );
        pods.drain(..4);
        assert_eq!(told(&pods, Some("canary")), "none");
        assert_eq!(
            told(&pods, None),
            "Istio is not present in the cluster: no running Istio pods in namespace \"istio-system\"\n"
        );
    }

    #[test]
    fn several_revisions_are_counted_each_for_itself() {
        let build = |version: &str| Build {
            version: version.to_owned(),
            ..Build::default()
        };
        let proxies = |revision: &str, versions: &[&str]| {
            let proxy = |(index, version): (usize, &&str)| Proxy {
                id: format!("{revision}-{index}.app"),
                namespace: "app".to_owned(),
                cluster: "Kubernetes".to_owned(),
                version: (*version).to_owned(),
                types: BTreeMap::new(),
            };
            answer(revision, versions.iter().enumerate().map(proxy).collect::<Vec<_>>())
        };
        let mut versions = vec![answer("1-22-1", build("1.22.1")), answer("canary", build("1.23.1"))];
        let proxies = [
            proxies("1-22-1", &["1.22.1", "1.21.0", "1.22.1"]),
            proxies("canary", &[]),
        ];
        insta::assert_snapshot!(format!(
            "{}\n{}\n{}",
            control_planes(&versions, true).join("\n"),
            data_plane(&proxies),
            by_revision(&versions, &proxies)
        ));
        versions.truncate(1);
        assert_eq!(by_revision(&versions, &proxies), "");
    }
}
