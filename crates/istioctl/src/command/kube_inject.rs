//! `istioctl kube-inject`: injection into files (revisions.md §5.9).

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use inject::document::{inject_documents, warnings};
use inject::{Config, Injector, NativeSidecars};
use install::api_server::kind;
use install::assets::Assets;
use install::input::{self, Input};
use install::object::{Id, Object, strings};
use revision::name::Revision;
use serde_json::Value;

use super::install::read;
use super::{program_hub, program_version};
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
    filename: Option<String>,
    /// File to write to instead of standard output.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Revision or tag whose configuration is used; the default revision unless given.
    #[arg(short, long)]
    revision: Option<String>,
    /// Mesh configuration instead of the cluster's.
    #[arg(long = "meshConfigFile", value_name = "FILE")]
    mesh_config_file: Option<String>,
    /// Injector configuration instead of the cluster's.
    #[arg(long = "injectConfigFile", value_name = "FILE")]
    inject_config_file: Option<String>,
    /// Chart values instead of the cluster's.
    #[arg(long = "valuesFile", value_name = "FILE")]
    values_file: Option<String>,
    /// IstioOperator whose mesh configuration and values are used, before those of files and of the cluster.
    #[arg(long = "operatorFileName", value_name = "FILE")]
    operator_file: Option<String>,
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
    let Some(filename) = &flags.filename else {
        return Err(Failure::new("filename not specified (see --filename or -f)"));
    };
    let input = read(filename)?;
    let given = Given::read(flags)?;
    // Where everything is given there is nothing to ask a cluster for.
    let cluster = if given.mesh.is_some() && given.config.is_some() && given.values.is_some() {
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
    let mesh = source.text(given.mesh, &flags.mesh_config_map, "mesh").await?;
    let config = source.text(given.config, &flags.inject_config_map, "config").await?;
    let values = source.text(given.values, &flags.inject_config_map, "values").await?;
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

/// What files say, so that the cluster need not.
struct Given {
    mesh: Option<String>,
    config: Option<String>,
    values: Option<String>,
}

impl Given {
    fn read(flags: &Flags) -> Result<Self, Failure> {
        let file = |name: &Option<String>| name.as_deref().map(read).transpose();
        let mut given = Self {
            mesh: file(&flags.mesh_config_file)?,
            config: file(&flags.inject_config_file)?,
            values: file(&flags.values_file)?,
        };
        if let Some(name) = &flags.operator_file {
            let input = Input {
                files: vec![(name.clone(), read(name)?)],
                settings: Vec::new(),
                revision: None,
                images: Some((program_hub(), program_version())),
                force: false,
            };
            let operator = input::resolve(&input, &Assets::embedded())?;
            given.values = Some(operator.values().to_string());
            let mesh = operator.document.pointer("/spec/meshConfig");
            given.mesh = mesh.map(Value::to_string).or(given.mesh);
        }
        Ok(given)
    }
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
    async fn text(&self, given: Option<String>, map: &str, key: &str) -> Result<String, Failure> {
        if let Some(text) = given {
            return Ok(text);
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
