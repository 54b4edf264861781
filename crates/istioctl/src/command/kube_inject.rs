//! `istioctl kube-inject`: injection into files (revisions.md §5.9).

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use inject::document::{inject_documents, warnings};
use inject::{Config, Injector, NativeSidecars};
use install::api_server::kind;
use install::object::{Id, Object};
use revision::name::Revision;
use serde_json::Value;

use super::injection::strings;
use crate::cli::Global;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::names::Names;
use crate::out;

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// File with Kubernetes objects (`-` is standard input).
    #[arg(short, long)]
    filename: String,
    /// File to write to instead of standard output.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Revision or tag whose configuration is used; the default revision unless given.
    #[arg(short, long)]
    revision: Option<String>,
    /// Mesh configuration instead of the cluster's.
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    mesh_config_file: Option<PathBuf>,
    /// Injector configuration instead of the cluster's.
    #[arg(long = "injectConfigFile", value_name = "FILE")]
    inject_config_file: Option<PathBuf>,
    /// Chart values instead of the cluster's.
    #[arg(long = "valuesFile", value_name = "FILE")]
    values_file: Option<PathBuf>,
    /// ConfigMap of the mesh configuration.
    #[arg(long = "meshConfigMapName", value_name = "NAME", default_value = "istio")]
    mesh_config_map: String,
    /// ConfigMap of the injector configuration.
    #[arg(
        long = "injectConfigMapName",
        value_name = "NAME",
        default_value = "istio-sidecar-injector"
    )]
    inject_config_map: String,
}

/// Injects.
pub async fn run(global: &Global, flags: Flags) -> Result<(), Failure> {
    let output = text(global, &flags).await?;
    match &flags.output {
        Some(path) => {
            std::fs::write(path, output).map_err(|error| Failure::new(format!("write {}: {error}", path.display())))
        }
        None => {
            out::put(&output);
            Ok(())
        }
    }
}

/// The objects with their proxies.
pub async fn text(global: &Global, flags: &Flags) -> Result<String, Failure> {
    let input = read_input(&flags.filename)?;
    let files = (&flags.mesh_config_file, &flags.inject_config_file, &flags.values_file);
    // With all three files there is nothing to ask a cluster for.
    let cluster = if let (Some(_), Some(_), Some(_)) = files {
        None
    } else {
        Some(Cluster::connect(global).await?)
    };
    let named = flags.revision.as_deref();
    let revision = match &cluster {
        Some(cluster) => cluster.revision(&global.istio_namespace, named).await?,
        None => Revision::parse(named.unwrap_or_default())?,
    };
    let source = Source {
        cluster: cluster.as_ref(),
        namespace: &global.istio_namespace,
        revision: &revision,
    };
    let mesh = source
        .text(flags.mesh_config_file.as_ref(), &flags.mesh_config_map, "mesh")
        .await?;
    let config = source
        .text(flags.inject_config_file.as_ref(), &flags.inject_config_map, "config")
        .await?;
    let values = source
        .text(flags.values_file.as_ref(), &flags.inject_config_map, "values")
        .await?;
    let mesh = install::yaml::document(&mesh).map_err(|error| Failure::new(format!("mesh configuration: {error}")))?;
    let injector = Injector {
        config: Config::parse(&as_config(&config)?, &values)?,
        mesh,
        revision: revision.value().to_owned(),
        native_sidecars: native_sidecars(cluster.as_ref()).await?,
        compliance_policy: std::env::var("COMPLIANCE_POLICY").unwrap_or_default(),
    };
    let injected = inject_documents(&injector, &input, |_| None)?;
    warnings(&input)
        .iter()
        .for_each(|warning| anstream::eprintln!("❗ {warning}"));
    Ok(injected)
}

fn read_input(name: &str) -> Result<String, Failure> {
    if name == "-" {
        return Ok(std::io::read_to_string(std::io::stdin())?);
    }
    read_file(std::path::Path::new(name))
}

/// The error is worded as Go does: scripts look for it.
fn read_file(path: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let why = if error.kind() == std::io::ErrorKind::NotFound {
            "no such file or directory".to_owned()
        } else {
            error.to_string()
        };
        Failure::new(format!("open {}: {why}", path.display()))
    })
}

/// A file may hold a whole configuration, or one bare template, which is then the sidecar's.
fn as_config(text: &str) -> Result<String, Failure> {
    if let Ok(mut config) = install::yaml::document(text)
        && config.get("templates").is_some()
    {
        if config.get("policy").is_none() {
            config["policy"] = Value::from("enabled");
        }
        return Ok(serde_json::to_string(&config)?);
    }
    let config = BTreeMap::from([
        ("policy", Value::from("enabled")),
        ("defaultTemplates", serde_json::json!(["sidecar"])),
        ("templates", serde_json::json!({ "sidecar": text })),
    ]);
    Ok(serde_json::to_string(&config)?)
}

/// Where configuration comes from when no file is given.
struct Source<'a> {
    cluster: Option<&'a Cluster>,
    namespace: &'a str,
    revision: &'a Revision,
}

impl Source<'_> {
    async fn text(&self, file: Option<&PathBuf>, map: &str, key: &str) -> Result<String, Failure> {
        if let Some(path) = file {
            return read_file(path);
        }
        let name = self.revision.suffixed(map);
        let Some(cluster) = self.cluster else {
            return Err(Failure::new(FILES));
        };
        let id = Id {
            name: name.clone(),
            namespace: self.namespace.to_owned(),
            ..kind("", "v1", "ConfigMap")
        };
        let Some(found) = cluster.server.get(&id).await? else {
            return Err(self.not_installed(cluster, &name).await?);
        };
        strings(found.0.pointer("/data")).remove(key).ok_or_else(|| {
            Failure::new(format!(
                "ConfigMap {name:?} in namespace {:?} has no key {key:?}: what revision {} injects is not known; {FILES}",
                self.namespace,
                self.revision.label()
            ))
        })
    }

    /// There is no such configuration: which there is instead.
    async fn not_installed(&self, cluster: &Cluster, map: &str) -> Result<Failure, Failure> {
        let (namespace, revision) = (self.namespace, self.revision.label());
        let names = Names::read(cluster, namespace).await?;
        Ok(Failure::new(format!(
            "revision {revision:?} is not installed in namespace {namespace:?}: there is no ConfigMap {map:?}; {}. Name another \
             with -r, install one with istioctl install, or {FILES}",
            names.present()
        )))
    }
}

/// What needs no cluster.
const FILES: &str = "give --meshConfigFile, --injectConfigFile and --valuesFile";

/// Proxies are native sidecars where nodes can run them (§5.6).
async fn native_sidecars(cluster: Option<&Cluster>) -> Result<NativeSidecars, Failure> {
    match std::env::var("ENABLE_NATIVE_SIDECARS").as_deref() {
        Ok("true") => return Ok(true.into()),
        Ok("false") => return Ok(false.into()),
        _ => {}
    }
    let Some(cluster) = cluster else {
        return Ok(true.into());
    };
    let nodes = cluster.server.list(&kind("", "v1", "Node"), "").await?;
    let kubelet = |node: &Object| node.text("/status/nodeInfo/kubeletVersion").to_owned();
    let kubelets: BTreeMap<String, String> = nodes
        .iter()
        .map(|node| (node.name().to_owned(), kubelet(node)))
        .collect();
    Ok(NativeSidecars::by_node(move |node| {
        inject::native::can_run(
            kubelets.get(node).map(String::as_str),
            kubelets.values().map(String::as_str),
        )
    }))
}
