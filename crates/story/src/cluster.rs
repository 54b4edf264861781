//! The cluster that a story runs on: one made for it, or the user's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::terminal;

/// A cluster to run on.
#[derive(Debug)]
pub struct Cluster {
    pub kubeconfig: PathBuf,
    /// Data folder of a local cluster that was made for the stories.
    pub local: Option<PathBuf>,
}

/// Folder with the programs: beside this one.
pub fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    // `bin/story` is a link into the build folder; the other programs stand beside the link.
    let called = std::env::args_os()
        .next()
        .map(PathBuf::from)
        .filter(|path| path.components().count() > 1);
    let called = called.map(|path| std::path::absolute(&path).unwrap_or(path));
    let folders = [called, Some(own)]
        .into_iter()
        .flatten()
        .filter_map(|path| path.parent().map(Path::to_owned));
    let mut folders = folders.filter(|folder| folder.join("istioctl").exists());
    folders
        .next()
        .context("istioctl is not beside this program; run `make build` and then bin/story")
}

impl Cluster {
    /// The user's cluster.
    pub fn existing(kubeconfig: PathBuf) -> Result<Self> {
        ensure!(
            kubeconfig.exists(),
            "{} does not exist; set KUBECONFIG to a kubeconfig file",
            kubeconfig.display()
        );
        Ok(Self {
            kubeconfig,
            local: None,
        })
    }

    /// Brings a local cluster up in a folder of its own and loads the project's images.
    pub fn local(programs: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("trysail-story-{}", std::process::id()));
        let cluster = Self {
            kubeconfig: folder.join("kubeconfig"),
            local: Some(folder),
        };
        let started = std::time::Instant::now();
        if let Err(error) = cluster.begin(programs) {
            // What has come up by then does not stay.
            return Err(match cluster.drydock(programs, &["reset"]) {
                Ok(_) => error,
                Err(also) => error.context(format!("{also:#}, after this error")),
            });
        }
        terminal::say(&format!(
            "A local cluster is up, with all images loaded, after {:.1} s.",
            started.elapsed().as_secs_f64()
        ));
        Ok(cluster)
    }

    fn begin(&self, programs: &Path) -> Result<()> {
        self.drydock(programs, &["up"])?;
        for image in images(programs)? {
            self.drydock(programs, &["load", &image.to_string_lossy()])?;
        }
        Ok(())
    }

    /// Whether the cluster was made for the stories.
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    fn drydock(&self, programs: &Path, arguments: &[&str]) -> Result<String> {
        let folder = self.local.as_deref().unwrap_or(Path::new(""));
        let output = Command::new(programs.join("drydock"))
            .args(arguments)
            .arg("--data-dir")
            .arg(folder)
            .output();
        let output = output.context("cannot run drydock")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "drydock {} failed: {}",
            arguments.join(" "),
            error.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Takes a local cluster down; returns what it left behind on the machine, which must be nothing. Somebody else's
    /// cluster stays as it is.
    pub fn down(self, programs: &Path) -> Result<Vec<String>> {
        let Some(folder) = &self.local else {
            return Ok(Vec::new());
        };
        let interface = interface(folder);
        self.drydock(programs, &["reset"])?;
        leftovers(folder, &interface?)
    }

    /// How to reach a cluster that stays up.
    pub fn hint(&self) -> String {
        let folder = self.local.as_deref().unwrap_or(Path::new(""));
        format!(
            "The cluster stays up: export KUBECONFIG={}\nTake it down with: bin/drydock reset --data-dir {}",
            self.kubeconfig.display(),
            folder.display()
        )
    }
}

/// Archives of all images that `make build` made.
fn images(programs: &Path) -> Result<Vec<PathBuf>> {
    let folder = programs.join("../target/images");
    let folder = if folder.is_dir() {
        folder
    } else {
        programs.join("../images")
    };
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("no images in {}; run `make build`", folder.display()))?;
    let mut images: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    images.retain(|path| path.extension().is_some_and(|e| e == "tar") || path.join("oci-layout").exists());
    images.sort();
    ensure!(
        !images.is_empty(),
        "no images in {}; run `make build`",
        folder.display()
    );
    Ok(images)
}

/// Name of the cluster's interface, from which all its names on the machine derive.
fn interface(folder: &Path) -> Result<String> {
    let file = folder.join("cluster.json");
    let cluster = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let cluster: serde_json::Value = serde_json::from_slice(&cluster).context("cluster.json is no JSON")?;
    let name = cluster["interface"].as_str().filter(|name| !name.is_empty());
    Ok(name.context("cluster.json names no interface")?.to_owned())
}

/// Mounts, processes, interfaces, tables, control groups and files that still belong to the cluster.
fn leftovers(folder: &Path, interface: &str) -> Result<Vec<String>> {
    let name = folder.to_string_lossy();
    let own = |text: &str| text.contains(&*name) || text.contains(interface);
    let mut left = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    left.extend(
        mounts
            .lines()
            .filter(|line| own(line))
            .map(|line| format!("mount {line}")),
    );
    let mut nft = if nix::unistd::geteuid().is_root() {
        Command::new("nft")
    } else {
        // As drydock does.
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "nft"]);
        sudo
    };
    let tables = nft.args(["list", "tables"]).output().context("cannot run nft")?;
    let error = String::from_utf8_lossy(&tables.stderr);
    ensure!(tables.status.success(), "nft cannot list the tables: {}", error.trim());
    let tables = String::from_utf8_lossy(&tables.stdout).into_owned();
    left.extend(tables.lines().filter(|line| own(line)).map(str::to_owned));
    for parent in [
        "/run/drydock",
        "/sys/class/net",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
    ] {
        let paths = entries(Path::new(parent)).map(|path| path.display().to_string());
        left.extend(paths.filter(|path| own(path)));
    }
    let claims = entries(Path::new("/run/drydock/networks"));
    let held = claims.filter(|claim| std::fs::read_to_string(claim).is_ok_and(|holder| holder == name));
    left.extend(held.map(|claim| claim.display().to_string()));
    left.extend(entries(folder).map(|path| path.display().to_string()));
    let processes = entries(Path::new("/proc")).filter(|path| !path.ends_with(std::process::id().to_string()));
    for process in processes {
        let Ok(command) = std::fs::read(process.join("cmdline")) else {
            continue;
        };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&*name) {
            left.push(format!("process {} {command}", process.display()));
        }
    }
    Ok(left)
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_cluster_leaves_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let run = Path::new("/run/drydock/test-leftovers");
        if std::fs::create_dir_all(run).is_err() || Command::new("nft").arg("list").output().is_err() {
            return println!("skipped: not root, or no nft");
        }
        std::fs::write(folder.path().join("drydock.log"), "").unwrap();
        // It waits for a line that never comes, and has no child that would outlive it.
        let mut waiting = Command::new("bash")
            .args(["-c", "read; :", &folder.path().to_string_lossy()])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let left = leftovers(folder.path(), "test-leftovers").unwrap();
        waiting.kill().unwrap();
        waiting.wait().unwrap();
        std::fs::remove_dir(run).unwrap();
        for trace in ["/run/drydock/test-leftovers", "drydock.log", "process /proc/"] {
            assert!(
                left.iter().any(|line| line.contains(trace)),
                "{trace} is not in {left:#?}"
            );
        }
        assert_eq!(left.len(), 3, "{left:#?}");
        let unnamed = interface(folder.path()).unwrap_err();
        assert!(unnamed.to_string().contains("cannot read"), "{unnamed}");
    }
}
