//! `drydock serve`: all parts of a cluster in this process, until it is asked to end.
//!
//! Containers outlive the process: killed or stopped, the next one takes them over. `drydock down` ends them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use drydock_api::server::StartError;
use drydock_api::{Config, Handle, Server};
use drydock_node::{NodeConfig, Serving};
use kube::Client;

use crate::cluster_file::ClusterFile;
use crate::data_dir::DataDir;
use crate::process::Process;
use crate::report::Report;
use crate::{lock, machine, network, parts, ready};

/// A cluster that is not ready by then never will be.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves until asked to end. `daemon`: started by `up`, which listens on standard output.
///
/// # Errors
/// A part cannot be started.
pub fn run(dir: &DataDir, daemon: bool) -> Result<()> {
    if daemon {
        // Not to be taken along when the terminal of `up` is closed.
        nix::unistd::setsid().ok();
    } else {
        machine::become_root(dir)?;
        machine::check_programs()?;
        dir.own()?;
    }
    parts::log();
    listen::open_files::raise_limit();
    let served = lock::take(dir).and_then(|_lock| parts::runtime()?.block_on(parts::until_stopped(serve(dir))));
    if let Err(error) = &served {
        tracing::error!("{error:#}");
        Report::Failed(format!("{error:#}")).tell();
    }
    served
}

async fn serve(dir: &DataDir) -> Result<()> {
    Process::own()?.register(dir)?;
    let before = ClusterFile::of_cluster(dir)?;
    let claimed = network::claim(dir.path(), before.as_ref().and_then(|cluster| cluster.network))?;
    let mut cluster = before.unwrap_or_else(|| ClusterFile::new(claimed));
    // Written before anything is made under its names, so that `down` can always clean up.
    cluster.write(dir)?;

    let api = start_api(dir, &cluster).await?;
    cluster.api_port = api.address().port();
    cluster.write(dir)?;
    write_kubeconfig(dir, &api)?;
    let ca = api.ca().cert_pem().to_owned();
    let part = |name: &str, detail: String| {
        Report::Part {
            name: name.into(),
            detail,
        }
        .tell()
    };
    part("API server", api.url());

    let client = async |agent| {
        let server = parts::server_as(&dir.kubeconfig(), agent).await?;
        Client::try_from(server).context("cannot make a client")
    };
    let options = drydock_controllers::Options {
        root_ca: Some(ca.clone()),
        // The lock on the data directory makes this process the only one; what an earlier one held is its own.
        turn: drydock_controllers::Turn::Taken {
            identity: format!("drydock_{}", cluster.node),
        },
    };
    let controllers = drydock_controllers::run(client(parts::CONTROLLERS).await?, options);
    let mut config = parts::node_config(dir, &cluster);
    config.client_ca_pem = ca.into_bytes();
    config.control_plane = true;
    config.serving = Some(node_certificate(&api, &config)?);
    let client = client(parts::NODE).await?;
    let node = drydock_node::run(client.clone(), config.clone());
    let readiness = async {
        let waited = tokio::time::timeout(PATIENCE, ready::wait(&client, &config, part)).await;
        waited.context("the cluster does not become ready: see drydock logs")?;
        Report::Ready.tell();
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        ended = tokio::spawn(node) => ended.context("the node failed")?.context("the node stopped"),
        _ = tokio::spawn(controllers) => bail!("the controllers stopped"),
        ended = readiness => ended,
    }
}

/// Starts the API server on the port that it had before, or on another one when somebody has taken that.
async fn start_api(dir: &DataDir, cluster: &ClusterFile) -> Result<Handle> {
    // Pods reach the server at the node's address, which comes into being after it: it listens on all addresses, and
    // whoever comes must show a certificate or token of the cluster.
    let node_ip = parts::node_config(dir, cluster).node_ip();
    let config = |port| Config {
        bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        service_cidr: cluster.service_cidr,
        advertise: Some(node_ip),
        ..Config::new(dir.path())
    };
    let started = match Server::start(config(cluster.api_port)).await {
        Err(StartError::Bind { .. }) if cluster.api_port != 0 => Server::start(config(0)).await,
        started => started,
    };
    started.context("the API server cannot start")
}

/// The node's serving certificate: the API server verifies it before it sends anything there.
fn node_certificate(api: &Handle, config: &NodeConfig) -> Result<Serving> {
    let names = [config.name.clone(), config.node_ip().to_string()];
    let identity = api
        .ca()
        .node(&config.name, &names)
        .context("cannot make a certificate for the node")?;
    Ok(Serving {
        cert_pem: identity.cert_pem.into_bytes(),
        key_pem: identity.key_pem.into_bytes(),
    })
}

/// Writes the administrator's kubeconfig, for its owner's eyes only.
fn write_kubeconfig(dir: &DataDir, api: &Handle) -> Result<()> {
    let path = dir.kubeconfig();
    let part = path.with_extension("part");
    let text = api
        .kubeconfig()
        .context("cannot make a certificate for the kubeconfig")?;
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part);
    let written = written.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written
        .and_then(|()| fs::rename(&part, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    machine::give_to_caller(&path);
    Ok(())
}
