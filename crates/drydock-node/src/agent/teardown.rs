//! Taking everything down: `drydock down`.

use crate::config::NodeConfig;
use crate::error::{Error, Result};
use crate::runtime::{Runtime, cgroup, shim};
use crate::{mounts, net, services};
use std::time::{Duration, Instant};

/// How long containers and the processes that keep them may take to end.
const ENDING: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(10);

/// Ends every container of this cluster and removes its network, rules, mounts and pod folders. Images stay. Safe to
/// call when nothing runs, and again after it failed half-way. No node process may be running.
///
/// # Errors
/// The first thing that could not be removed; the rest is removed nevertheless, but for what is known of containers that
/// do not end.
pub async fn teardown(config: &NodeConfig) -> Result<()> {
    within(ENDING, config).await
}

async fn within(patience: Duration, config: &NodeConfig) -> Result<()> {
    let mut result = end_containers(config, patience).await;
    if result.is_ok() {
        result = end_shims(config, patience).await;
    }
    let ended = result.is_ok();
    result = result.and(net::host_down(config).await);
    result = result.and(services::remove(config).await);
    net::forget(config).await;
    if !ended {
        return result;
    }
    result = result.and(mounts::remove(&config.pods_dir()));
    result = result.and(mounts::remove(&config.run_dir()));
    result.and(remove_group(config, patience).await)
}

/// Ends the containers until the runtime knows of none.
async fn end_containers(config: &NodeConfig, patience: Duration) -> Result<()> {
    let root = config.run_dir().join("runtime");
    if !root.is_dir() {
        return Ok(());
    }
    let runtime = Runtime {
        program: config.runtime()?,
        root,
    };
    let until = Instant::now() + patience;
    loop {
        let ids = runtime.list().await?;
        if ids.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Error::Command {
                command: format!("{} delete", runtime.program.display()),
                message: format!("these containers do not end: {}", ids.join(" ")),
            });
        }
        futures::future::join_all(ids.iter().map(|id| runtime.delete(id))).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for the processes that kept the containers: they still write into the pods' folders. One that had just been
/// started when its node was ended may yet bring its container up.
async fn end_shims(config: &NodeConfig, patience: Duration) -> Result<()> {
    let until = Instant::now() + patience;
    loop {
        let Some(pid) = shim::of_pods(&config.pods_dir()).first().copied() else {
            return Ok(());
        };
        if Instant::now() >= until {
            return Err(Error::Pod(format!(
                "process {pid}, which keeps a container, does not end"
            )));
        }
        tokio::time::sleep(PAUSE).await;
        end_containers(config, patience).await?;
    }
}

/// The kernel lets go of a group a moment after the last process in it.
async fn remove_group(config: &NodeConfig, patience: Duration) -> Result<()> {
    let (group, until) = (format!("/{}", config.bridge()), Instant::now() + patience);
    while !cgroup::remove(&group) {
        if Instant::now() >= until {
            return Err(Error::Pod(format!(
                "control group {group} has processes that do not end"
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// A node whose container runtime is what [`use_runtime`] says.
    fn node(scratch: &Path) -> NodeConfig {
        let range = |text: &str| text.parse().unwrap();
        let mut config = NodeConfig::new("n", scratch, range("10.9.0.0/24"), range("10.8.0.0/24"));
        config.runtime = Some(scratch.join("runtime"));
        config
    }

    /// Links to programs that exist: one that was just written cannot be run ("text file busy") while a process that
    /// another test started in that moment still has it open.
    fn use_runtime(config: &NodeConfig, program: &str) {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        symlink(data.join(program), config.runtime.as_ref().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn what_is_known_of_a_container_stays_as_long_as_it_runs() {
        if !nix::unistd::geteuid().is_root() {
            return println!("skipped: not root");
        }
        let scratch = tempfile::tempdir().unwrap();
        let config = node(scratch.path());
        let state = config.run_dir().join("runtime/stubborn");
        std::fs::create_dir_all(&state).unwrap();
        std::fs::create_dir_all(config.pods_dir().join("uid")).unwrap();
        use_runtime(&config, "stubborn-runtime");
        let error = within(Duration::from_millis(50), &config).await.unwrap_err();
        assert!(error.to_string().contains("do not end: stubborn"), "{error}");
        assert!(state.is_dir() && config.pods_dir().join("uid").is_dir());
        std::fs::remove_file(config.runtime.as_ref().unwrap()).unwrap();
        use_runtime(&config, "/bin/true");
        within(ENDING, &config).await.unwrap();
        assert!(!config.run_dir().exists() && !config.pods_dir().exists());
    }

    #[tokio::test]
    async fn a_container_that_comes_up_late_is_ended_too() {
        if !nix::unistd::geteuid().is_root() {
            return println!("skipped: not root");
        }
        let scratch = tempfile::tempdir().unwrap();
        let config = node(scratch.path());
        let (state, pod) = (config.run_dir().join("runtime"), config.pods_dir().join("uid"));
        std::fs::create_dir_all(&state).unwrap();
        std::fs::create_dir_all(&pod).unwrap();
        use_runtime(&config, "late-runtime");
        // As a shim looks, until its container is deleted.
        let mut shim = std::process::Command::new("sh")
            .args(["-c", "read line", "shim"])
            .arg(&pod)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::fs::write(state.join("shim"), shim.id().to_string()).unwrap();
        let ended = std::thread::spawn(move || shim.wait());
        within(ENDING, &config).await.unwrap();
        ended.join().unwrap().unwrap();
    }
}
