//! `drydock down` and `drydock reset`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cluster_file::ClusterFile;
use crate::data_dir::DataDir;
use crate::process::Process;
use crate::{machine, network, out, parts};

const PATIENCE: Duration = Duration::from_secs(10);

/// Stops the cluster and leaves nothing of it on the machine but its data directory.
///
/// # Errors
/// Something cannot be removed.
pub fn run(dir: &DataDir) -> Result<()> {
    if !dir.is_cluster() {
        return out::line(format_args!("There is no cluster in {}.", dir.path().display()));
    }
    machine::become_root(dir)?;
    stop(dir)?;
    let file = ClusterFile::read(dir).ok().flatten();
    match file.filter(ClusterFile::is_node_alone) {
        Some(file) => out::line(format_args!(
            "The node {} in {} is down. Its cluster runs without it; drydock node starts it again.",
            file.node,
            dir.path().display()
        )),
        None => out::line(format_args!(
            "The cluster in {} is down. Its objects stay; drydock up brings it back.",
            dir.path().display()
        )),
    }
}

/// Stops the cluster and removes its data directory.
///
/// # Errors
/// Something cannot be removed, or the directory is not a cluster's.
pub fn reset(dir: &DataDir) -> Result<()> {
    machine::become_root(dir)?;
    if !dir.is_ours()? {
        bail!(
            "{} is not the directory of a cluster; nothing is removed",
            dir.path().display()
        );
    }
    let file = ClusterFile::read(dir).ok().flatten();
    stop(dir)?;
    match fs::remove_dir_all(dir.path()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", dir.path().display()));
        }
        _ => {}
    }
    let what = if file.is_some_and(|file| file.is_node_alone()) {
        "node"
    } else {
        "cluster"
    };
    out::line(format_args!("The {what} in {} is gone.", dir.path().display()))
}

fn stop(dir: &DataDir) -> Result<()> {
    if let Some(process) = Process::of(dir) {
        process.stop(PATIENCE)?;
    }
    if dir.is_cluster() {
        // What is taken down bears the directory's name, so a damaged file is in nobody's way.
        let cluster = ClusterFile::read(dir).ok().flatten();
        let config = parts::node_config(dir, &cluster.unwrap_or_else(|| ClusterFile::new(0)));
        let ended = parts::runtime()?.block_on(drydock_node::teardown(&config));
        ended.context("not everything could be removed; drydock down again may help")?;
    }
    network::release(dir.path());
    fs::remove_file(dir.process_file()).ok();
    Ok(())
}
