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
            kubeconfig: PathBuf::new(),
            local: Some(folder.clone()),
        };
        let started = std::time::Instant::now();
        cluster.drydock(programs, &["up"])?;
        for image in images(programs)? {
            cluster.drydock(programs, &["load", &image.to_string_lossy()])?;
        }
        let output = cluster.drydock(programs, &["kubeconfig"])?;
        terminal::say(&format!(
            "A local cluster is up, with all images loaded, after {:.1} s.",
            started.elapsed().as_secs_f64()
        ));
        Ok(Self {
            kubeconfig: PathBuf::from(output.trim()),
            local: Some(folder),
        })
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

    /// Takes a local cluster down; returns what it left behind on the machine, which must be nothing.
    pub fn down(self, programs: &Path) -> Result<Vec<String>> {
        let Some(folder) = &self.local else {
            return Ok(Vec::new());
        };
        let bridge = bridge(folder);
        self.drydock(programs, &["reset"])?;
        let left = leftovers(folder, bridge.as_deref())?;
        std::fs::remove_dir_all(folder).ok();
        Ok(left)
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

/// Name of the cluster's bridge, from which all its network names derive.
fn bridge(folder: &Path) -> Option<String> {
    let cluster = std::fs::read_to_string(folder.join("cluster.json")).ok()?;
    let cluster: serde_json::Value = serde_json::from_str(&cluster).ok()?;
    let gateway = cluster["podCidr"].as_str()?.replace(".0/", ".1/");
    let addresses = run("ip", &["-o", "-4", "addr", "show"]);
    let line = addresses
        .lines()
        .find(|line| line.split_whitespace().any(|word| word == gateway))?
        .to_owned();
    line.split_whitespace().nth(1).map(str::to_owned)
}

/// Output of a command, empty if it cannot be run.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

/// Mounts, processes, interfaces, tables and network namespaces that still belong to the cluster.
fn leftovers(folder: &Path, bridge: Option<&str>) -> Result<Vec<String>> {
    let name = folder.to_string_lossy();
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let mut left: Vec<String> = mounts
        .lines()
        .filter(|line| line.contains(&*name))
        .map(|line| format!("mount {line}"))
        .collect();
    for process in std::fs::read_dir("/proc")
        .context("cannot read the processes")?
        .flatten()
    {
        let Ok(command) = std::fs::read(process.path().join("cmdline")) else {
            continue;
        };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let own = process.file_name().to_string_lossy() == std::process::id().to_string();
        if !own && command.contains(&*name) {
            left.push(format!("process {} {command}", process.file_name().to_string_lossy()));
        }
    }
    if let Some(bridge) = bridge {
        for (program, arguments) in [
            ("ip", ["-o", "link"].as_slice()),
            ("nft", &["list", "tables"]),
            ("ip", &["netns"]),
        ] {
            let output = run(program, arguments);
            left.extend(output.lines().filter(|line| line.contains(bridge)).map(str::to_owned));
        }
    }
    Ok(left)
}
