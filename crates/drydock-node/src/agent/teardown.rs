//! Taking everything down: `drydock down`.

use crate::config::NodeConfig;
use crate::error::Result;
use crate::net;
use crate::runtime::{Runtime, cgroup};
use crate::services;
use nix::mount::{MntFlags, umount2};
use std::path::PathBuf;

/// Ends every container of this cluster and removes its network, rules, mounts and pod folders. Images stay. Safe to
/// call when nothing runs, and again after it failed half-way. No node process may be running.
///
/// # Errors
/// The first thing that could not be removed; the rest is removed nevertheless.
pub async fn teardown(config: &NodeConfig) -> Result<()> {
    let mut result = Ok(());
    let root = config.run_dir().join("runtime");
    if root.is_dir() {
        let runtime = Runtime {
            program: config.runtime()?,
            root,
        };
        match runtime.list().await {
            Ok(ids) => futures::future::join_all(ids.iter().map(|id| runtime.delete(id)))
                .await
                .clear(),
            Err(error) => result = Err(error),
        }
    }
    let mut mounts = mounts_below(config);
    // Inner mounts first.
    mounts.sort_by_key(|m| std::cmp::Reverse(m.as_os_str().len()));
    for mount in mounts {
        let _ = umount2(&mount, MntFlags::MNT_DETACH);
    }
    for namespace in std::fs::read_dir(config.run_dir().join("netns"))
        .into_iter()
        .flatten()
        .flatten()
    {
        net::remove(&namespace.path());
    }
    result = result.and(net::host_down(config).await);
    result = result.and(services::remove(config).await);
    net::forget(config).await;
    cgroup::remove(&format!("/{}", config.bridge()));
    let _ = std::fs::remove_dir_all(config.run_dir());
    let _ = std::fs::remove_dir_all(config.pods_dir());
    result
}

fn mounts_below(config: &NodeConfig) -> Vec<PathBuf> {
    let pods = std::path::absolute(config.pods_dir()).unwrap_or_else(|_| config.pods_dir());
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The fifth field is the mount point, with spaces and the like as octal.
    let point = |line: &str| line.split(' ').nth(4).map(|p| PathBuf::from(p.replace("\\040", " ")));
    text.lines()
        .filter_map(point)
        .filter(|p| p.starts_with(&pods))
        .collect()
}
