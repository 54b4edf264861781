//! The parts of a cluster, as they are wired here and as commands of their own (`drydock node`, `drydock controllers`).

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drydock_node::NodeConfig;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::arguments::NodeArguments;
use crate::cluster_file::ClusterFile;
use crate::data_dir::DataDir;
use crate::process::Process;
use crate::{images, join, lock, machine};

/// The runtime that everything runs on.
///
/// # Errors
/// The machine has no thread to give.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    // A second provider in the dependency graph would make rustls panic at the first connection.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
}

/// Where the log goes: standard error, filtered by `RUST_LOG`.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube_client=error,kube_runtime=warn"));
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_ansi(false);
    log.try_init().ok();
}

/// User agent of the controllers.
pub const CONTROLLERS: &str = "kube-controller-manager/v1.36.2";
/// User agent of the node.
pub const NODE: &str = "kubelet/v1.36.2";

/// The API server that a kubeconfig file names.
///
/// # Errors
/// The file cannot be read, or names none.
pub async fn server(kubeconfig: &Path) -> Result<Config> {
    let file = Kubeconfig::read_from(kubeconfig);
    let file = file.with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    config.with_context(|| format!("{} names no usable cluster", kubeconfig.display()))
}

/// As [`server`], for a part that makes itself known by the name of its counterpart in other clusters: the API server
/// notes it as the owner of what the part writes.
///
/// # Errors
/// As [`server`].
pub async fn server_as(kubeconfig: &Path, agent: &'static str) -> Result<Config> {
    let mut config = server(kubeconfig).await?;
    config
        .headers
        .push((http::header::USER_AGENT, http::HeaderValue::from_static(agent)));
    Ok(config)
}

/// The server's certificate authorities in PEM.
pub fn authority(config: &Config) -> String {
    let ders = config.root_cert.iter().flatten();
    ders.map(|der| {
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            lines.join("\n")
        )
    })
    .collect()
}

/// What the node of a cluster is told.
#[must_use]
pub fn node_config(dir: &DataDir, cluster: &ClusterFile) -> NodeConfig {
    NodeConfig::new(&cluster.node, dir.path(), cluster.pod_cidr, cluster.service_cidr)
}

/// `drydock node`: a node for the API server of a kubeconfig.
///
/// # Errors
/// The machine cannot run pods, or the server cannot be reached.
pub fn node(arguments: NodeArguments) -> Result<()> {
    let dir = DataDir::choose(arguments.which.data_dir)?;
    machine::become_root(&dir)?;
    machine::check_programs()?;
    log();
    let before = ClusterFile::read(&dir)?;
    if before.as_ref().is_some_and(|file| !file.is_node_alone()) {
        bail!(
            "{} holds a cluster of its own: give the node another --data-dir",
            dir.path().display()
        );
    }
    dir.own()?;
    let _lock = lock::take(&dir)?;
    if !arguments.no_images {
        images::load_built(&dir)?;
    }
    runtime()?.block_on(async {
        let server = server_as(&arguments.kubeconfig, NODE).await?;
        let authority = authority(&server).into_bytes();
        let client = kube::Client::try_from(server).context("cannot make a client of the kubeconfig")?;
        let version = client.apiserver_version().await;
        let version = version.context("the API server does not answer")?;
        let service_cidr = match arguments.service_cidr {
            Some(range) => range,
            None => join::service_range(&client).await?,
        };
        // For `drydock down`, which ends what the node leaves running.
        let file = ClusterFile {
            pod_cidr: join::pod_range(&client, &arguments.name, arguments.pod_cidr).await?,
            node: arguments.name,
            network: None,
            service_cidr,
            api_port: 0,
            interface: String::new(),
        };
        file.write(&dir)?;
        Process::own()?.register(&dir)?;
        let mut config = node_config(&dir, &file);
        config.kubelet_port = arguments.port;
        config.serve_dns = !arguments.no_dns;
        config.allow_anonymous = arguments.allow_anonymous;
        config.server_ca_pem = authority;
        if let Some(file) = &arguments.client_ca {
            config.client_ca_pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        }
        tracing::info!(
            api_server = version.git_version,
            pods = %file.pod_cidr,
            services = %file.service_cidr,
            data_dir = %dir.path().display(),
            "joins as {}",
            file.node
        );
        until_stopped(async { drydock_node::run(client, config).await.context("the node stopped") }).await
    })
}

/// `drydock controllers`: the controllers for the API server of a kubeconfig.
///
/// # Errors
/// The server cannot be reached.
pub fn controllers(kubeconfig: &Path) -> Result<()> {
    log();
    runtime()?.block_on(async {
        let server = server_as(kubeconfig, CONTROLLERS).await?;
        let root_ca = Some(authority(&server)).filter(|pem| !pem.is_empty());
        let client = kube::Client::try_from(server).context("cannot make a client of the kubeconfig")?;
        client
            .apiserver_version()
            .await
            .context("the API server does not answer")?;
        until_stopped(async {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let identity = format!("{}_drydock-{}", host.trim(), std::process::id());
            let turn = drydock_controllers::Turn::Awaited { identity };
            drydock_controllers::run(client, drydock_controllers::Options { root_ca, turn }).await;
            anyhow::bail!("others run the controllers now, or the API server is away")
        })
        .await
    })
}

/// `drydock shim`: what keeps a container's process, in place of the node.
///
/// # Errors
/// None; the shim reports to the node.
pub fn shim(arguments: &[String]) -> Result<ExitCode> {
    Ok(drydock_node::shim::main(arguments.iter().cloned()))
}

/// Runs until `work` ends or the process is asked to end.
///
/// # Errors
/// Those of `work`.
pub async fn until_stopped(work: impl Future<Output = Result<()>>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    tokio::select! {
        done = work => done,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
