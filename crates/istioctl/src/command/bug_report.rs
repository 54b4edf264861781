//! `istioctl bug-report`: what somebody who was not there needs, in one archive: bounded, and without secrets.

mod archive;
mod redact;

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::names::{PROXY_CONTAINER, label, port};
use clap::Args;
use futures::StreamExt as _;
use install::api_server::{Effect, kind, root};
use install::object::{Id, Object};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use serde_json::{Value, json};
use status::forward::PodPort;

use self::archive::Archive;
use self::redact::Redacted;
use super::program_version;
use super::proxy_status::unconnected::has_proxy;
use crate::cli::{Global, duration};
use crate::cluster::{Cluster, own_kinds};
use crate::failure::Failure;
use crate::out;

/// Requests under way at the same time.
const AT_ONCE: usize = 8;
/// Megabytes of the archive's content.
const MIB: u64 = 1 << 20;

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// The archive to write.
    #[arg(short, long, value_name = "FILE", default_value = "bug-report.tar.gz")]
    output: PathBuf,
    /// Only what concerns these namespaces, beside the control plane (repeatable).
    #[arg(long, value_name = "NAMESPACE")]
    include: Vec<String>,
    /// Nothing of these namespaces (repeatable).
    #[arg(long, value_name = "NAMESPACE")]
    exclude: Vec<String>,
    /// Logs of this long ago until now.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    duration: Duration,
    /// Most proxies whose logs and configuration go in; those that are not ready come first.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    max_proxies: usize,
    /// Most content, in MiB before compression.
    #[arg(long, value_name = "MIB", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=4096))]
    max_size: u64,
    /// How long one answer may take.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    timeout: Duration,
    /// Says what would be collected.
    #[arg(long)]
    dry_run: bool,
    /// Write over an archive that is there.
    #[arg(long)]
    overwrite: bool,
}

/// Kinds that are described beside the mesh's own; Secrets never are.
const KINDS: [(&str, &str, &str); 19] = [
    ("", "v1", "Namespace"),
    ("", "v1", "Node"),
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "Event"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("apps", "v1", "DaemonSet"),
    ("apps", "v1", "StatefulSet"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("discovery.k8s.io", "v1", "EndpointSlice"),
    ("coordination.k8s.io", "v1", "Lease"),
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"),
    ("gateway.networking.k8s.io", "v1", "Gateway"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("gateway.networking.k8s.io", "v1", "GRPCRoute"),
];

/// ConfigMaps that a control plane is configured by; a named revision's have `-<revision>` appended. Of others nothing is
/// collected.
const CONFIG_MAPS: [&str; 3] = ["istio", "istio-sidecar-injector", "values"];

/// What an istiod is asked.
const ISTIOD_PAGES: [&str; 10] = [
    "version",
    "metrics",
    "debug/syncz",
    "debug/connections",
    "debug/registryz",
    "debug/endpointz",
    "debug/configz",
    "debug/mesh",
    "debug/resourcesz",
    "debug/clusterz",
];

/// What a proxy is asked.
const PROXY_PAGES: [&str; 5] = [
    "config_dump?include_eds",
    "clusters",
    "listeners",
    "stats",
    "server_info",
];

/// One thing to collect.
enum Task {
    Kind(Id),
    /// ConfigMaps of control planes in the system namespace.
    Configuration(Id),
    Page {
        namespace: String,
        pod: String,
        port: u16,
        page: &'static str,
    },
    Log {
        namespace: String,
        pod: String,
        container: String,
        previous: bool,
    },
}

impl Task {
    /// Its place in the archive.
    fn path(&self) -> String {
        match self {
            Self::Kind(id) if id.group.is_empty() => format!("objects/core/{}.yaml", id.kind),
            Self::Kind(id) => format!("objects/{}/{}.yaml", id.group, id.kind),
            Self::Configuration(id) => format!("objects/core/{}.yaml", id.kind),
            Self::Page {
                namespace, pod, page, ..
            } => {
                let page = page.split('?').next().unwrap_or(page).replace('/', "_");
                format!("pods/{namespace}/{pod}/{page}")
            }
            Self::Log {
                namespace,
                pod,
                container,
                previous,
            } => {
                let before = if *previous { ".previous" } else { "" };
                format!("pods/{namespace}/{pod}/{container}{before}.log")
            }
        }
    }
}

/// Writes the archive.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    if !flags.dry_run {
        free(&flags.output, flags.overwrite)?;
    }
    let cluster = Cluster::connect(global).await?;
    let pods = cluster.server.list(&kind("", "v1", "Pod"), "").await?;
    let (tasks, left_out) = tasks(&pods, global, &flags);
    if flags.dry_run {
        tasks.iter().for_each(|task| out::put(&(task.path() + "\n")));
        return Ok(());
    }
    let mut archive = Archive::default();
    let limit = flags.max_size * MIB;
    let mut missing = Vec::new();
    let mut replaced = 0;
    let (cluster, flags_) = (&cluster, &flags);
    let mut answers = futures::stream::iter(tasks)
        .map(|task| async move {
            let result = tokio::time::timeout(flags_.timeout, collect(cluster, flags_, &task)).await;
            let late = || Err(format!("no answer within {:?}", flags_.timeout));
            (task.path(), result.unwrap_or_else(|_| late()))
        })
        .buffered(AT_ONCE);
    while let Some((path, result)) = answers.next().await {
        match result {
            Ok(None) => {}
            Ok(Some(found)) if archive.size() + found.rest.len() as u64 > limit => {
                missing.push(format!(
                    "{path}: left out, the archive is full (--max-size {})",
                    flags.max_size
                ));
            }
            Ok(Some(found)) => {
                replaced += found.replaced;
                archive.add(&path, &found.rest);
            }
            Err(error) => missing.push(format!("{path}: {error}")),
        }
    }
    drop(answers);
    if left_out > 0 {
        missing.push(format!(
            "{left_out} proxies left out (--max-proxies {})",
            flags.max_proxies
        ));
    }
    let about = json!({
        "client": program_version(),
        "apiServer": cluster.version.git_version,
        "at": jiff::Timestamp::now().to_string(),
        "logsOf": format!("{:?}", flags.duration),
        "missing": missing,
        "valuesRemoved": replaced,
    });
    archive.add("about.json", &serde_json::to_string_pretty(&about)?);
    let (files, size) = (archive.files(), archive.size());
    let failed = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", flags.output.display()));
    std::fs::write(&flags.output, archive.finish().map_err(failed)?).map_err(failed)?;
    for line in &missing {
        anstream::eprintln!("❗ {line}");
    }
    out::put(&format!(
        "{}: {files} files, {} KiB before compression. Secrets are not in it, and {replaced} values that may be some read \
         {}; look through it before you hand it on.\n",
        flags.output.display(),
        size.div_ceil(1024),
        redact::GONE
    ));
    Ok(())
}

/// An archive of another time is not lost, and that is known before anything is collected.
fn free(output: &Path, overwrite: bool) -> Result<(), Failure> {
    if overwrite || !output.exists() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} is there already: name another file with -o, or pass --overwrite",
        output.display()
    )))
}

/// What is collected, the most telling first, and how many proxies are left out.
fn tasks(pods: &[Object], global: &Global, flags: &Flags) -> (Vec<Task>, usize) {
    let system = &global.istio_namespace;
    let mut tasks: Vec<Task> = KINDS
        .iter()
        .map(|(group, version, name)| kind(group, version, name))
        .chain(own_kinds())
        .map(Task::Kind)
        .collect();
    tasks.push(Task::Configuration(Id {
        namespace: system.clone(),
        ..kind("", "v1", "ConfigMap")
    }));
    let mut add = |pod: &Object, port: u16, pages: &[&'static str]| {
        let (namespace, name) = (pod.namespace().to_owned(), pod.name().to_owned());
        for page in pages {
            tasks.push(Task::Page {
                namespace: namespace.clone(),
                pod: name.clone(),
                port,
                page,
            });
        }
        for status in container_statuses(pod) {
            let container = status["name"].as_str().unwrap_or_default().to_owned();
            let restarted = status["restartCount"].as_u64().unwrap_or(0) > 0;
            // Of applications nothing is collected.
            if port == port::PROXY_ADMIN && container != PROXY_CONTAINER {
                continue;
            }
            for previous in [false, true].into_iter().filter(|previous| !previous || restarted) {
                let (namespace, pod) = (namespace.clone(), name.clone());
                tasks.push(Task::Log {
                    namespace,
                    pod,
                    container: container.clone(),
                    previous,
                });
            }
        }
    };
    let is_istiod = |pod: &&Object| pod.namespace() == *system && pod.label("app") == "istiod";
    for pod in pods.iter().filter(is_istiod) {
        add(pod, port::MONITORING, &ISTIOD_PAGES);
    }
    let mut proxies: Vec<&Object> = pods
        .iter()
        .filter(|pod| has_proxy(pod) && is_wanted(pod.namespace(), flags))
        .collect();
    proxies.sort_by_key(|pod| {
        (
            install::ready::is_pod_ready(pod),
            pod.namespace().to_owned(),
            pod.name().to_owned(),
        )
    });
    let left_out = proxies.len().saturating_sub(flags.max_proxies);
    for pod in proxies.into_iter().take(flags.max_proxies) {
        add(pod, port::PROXY_ADMIN, &PROXY_PAGES);
    }
    (tasks, left_out)
}

fn container_statuses(pod: &Object) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| pod.0["status"][list].as_array().into_iter().flatten())
}

fn is_wanted(namespace: &str, flags: &Flags) -> bool {
    let named = |list: &[String]| list.iter().any(|name| name == namespace);
    !named(&flags.exclude) && (flags.include.is_empty() || named(&flags.include))
}

/// Whether a ConfigMap is one of a control plane's, by its name and the label of the revision.
fn configures(map: &Object) -> bool {
    let of = |base: &str| {
        let revision = map.name().strip_prefix(base)?;
        Some(revision.is_empty() || revision.strip_prefix('-')? == map.label(label::REVISION))
    };
    CONFIG_MAPS.iter().any(|base| of(base) == Some(true))
}

/// Objects without what may be secret, one after the other.
fn documents(objects: impl Iterator<Item = Object>) -> Option<Redacted<String>> {
    let trees: Vec<Redacted<Value>> = objects.map(|object| redact::tree(object.0)).collect();
    let documents: Vec<String> = trees.iter().map(|tree| install::yaml::to_sorted(&tree.rest)).collect();
    (!documents.is_empty()).then(|| Redacted {
        rest: documents.join("\n---\n"),
        replaced: trees.iter().map(|tree| tree.replaced).sum(),
    })
}

async fn collect(cluster: &Cluster, flags: &Flags, task: &Task) -> Result<Option<Redacted<String>>, String> {
    match task {
        Task::Kind(id) => {
            let objects = cluster.server.list(id, "").await;
            let objects = objects.map_err(|error| error.to_string())?;
            let is_asked = |object: &Object| object.namespace().is_empty() || is_wanted(object.namespace(), flags);
            Ok(documents(objects.into_iter().filter(is_asked)))
        }
        Task::Configuration(id) => {
            let maps = cluster.server.list(id, "").await.map_err(|error| error.to_string())?;
            Ok(documents(maps.into_iter().filter(configures)))
        }
        Task::Page {
            namespace,
            pod,
            port,
            page,
        } => {
            let to = PodPort {
                namespace,
                pod,
                port: *port,
            };
            let body = cluster.reach.request(&to, "GET", &format!("/{page}")).await;
            let body = body.map_err(|error| error.to_string())?;
            Ok(Some(redact::text(&String::from_utf8_lossy(&body))))
        }
        Task::Log {
            namespace,
            pod,
            container,
            previous,
        } => {
            let parameters = LogParams {
                container: Some(container.clone()),
                previous: *previous,
                since_seconds: i64::try_from(flags.duration.as_secs()).ok(),
                limit_bytes: Some(4 << 20),
                timestamps: true,
                ..LogParams::default()
            };
            let read = async |client| {
                let pods: Api<Pod> = Api::namespaced(client, namespace);
                pods.logs(pod, &parameters).await
            };
            cluster
                .server
                .ask(Effect::Reads, read)
                .await
                .map(|log| Some(redact::text(&log)))
                .map_err(|error| root(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_configures_a_control_plane_is_collected_without_its_secrets() {
        let map = |name: &str, revision: &str, data: Value| {
            Object(
                json!({"kind": "ConfigMap", "metadata": {"name": name, "namespace": "istio-system",
                "labels": {"istio.io/rev": revision}}, "data": data}),
            )
        };
        let tracer = "defaultConfig:\n  tracing:\n    lightstep:\n      accessToken: x\n      address: a:1\n";
        let maps = [
            map("istio", "default", json!({"mesh": "rootNamespace: istio-system\n"})),
            map("istio-canary", "canary", json!({"mesh": tracer})),
            map(
                "istio-sidecar-injector-canary",
                "canary",
                json!({"values": "{\"global\":{\"token\":\"x\",\"hub\":\"h\"}}"}),
            ),
            map("values", "default", json!({})),
            map("istio-ca-root-cert", "", json!({})),
            map("istio-leader", "canary", json!({})),
            map("app", "", json!({"password": "x"})),
        ];
        let found = documents(maps.into_iter().filter(configures)).unwrap_or_default();
        insta::assert_snapshot!(found.rest);
        assert_eq!(found.replaced, 2);
    }
}
