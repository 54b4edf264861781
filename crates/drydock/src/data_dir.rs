//! Where a cluster lives: its data directory and the files in it.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cluster_file::ClusterFile;
use crate::machine;

/// Everything that the versions without a mark left in a data directory.
const NAMES: [&str; 9] = [
    "cluster.json",
    "drydock.log",
    "kubeconfig",
    "loaded.json",
    "lock",
    "node",
    "pki",
    "process.json",
    "store.redb",
];

/// The data directory of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The directory that is given, or else the default (documented in `drydock --help`).
    ///
    /// # Errors
    /// The working directory cannot be told.
    pub fn choose(given: Option<PathBuf>) -> Result<Self> {
        let here = std::env::current_dir().context("cannot tell the working directory")?;
        let path = given.unwrap_or_else(|| default(&here, std::env::var_os("HOME").map(PathBuf::from)));
        // Links are resolved where possible, so that one cluster does not have two names.
        let absolute = here.join(path);
        Ok(DataDir(absolute.canonicalize().unwrap_or(absolute)))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file that says that everything here is drydock's to remove.
    fn marker(&self) -> PathBuf {
        self.0.join("drydock-data")
    }

    /// What was chosen for the cluster.
    #[must_use]
    pub fn cluster_file(&self) -> PathBuf {
        self.0.join("cluster.json")
    }

    /// Kubeconfig of the cluster's administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// What the process has to say.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("drydock.log")
    }

    /// Which process serves the cluster.
    #[must_use]
    pub fn process_file(&self) -> PathBuf {
        self.0.join("process.json")
    }

    /// Which images have been loaded by `up`.
    #[must_use]
    pub fn loaded_file(&self) -> PathBuf {
        self.0.join("loaded.json")
    }

    /// Whether a cluster has ever been started here.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.cluster_file().exists()
    }

    /// Makes the directory drydock's: there, marked, and closed to other users of the machine, who must not read the
    /// keys and Secrets in it.
    ///
    /// # Errors
    /// Something else is in it, or it cannot be made.
    pub fn own(&self) -> Result<()> {
        let failed = || format!("cannot create {}", self.0.display());
        let missing: Vec<&Path> = self.0.ancestors().take_while(|dir| !dir.exists()).collect();
        fs::create_dir_all(&self.0).with_context(failed)?;
        missing.into_iter().for_each(machine::give_to_caller);
        if !self.is_ours()? {
            bail!(
                "{} holds other things than a cluster: give an empty directory, or one that is not there yet",
                self.0.display()
            );
        }
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700)).with_context(failed)?;
        machine::give_to_caller(&self.0);
        write(
            &self.marker(),
            b"drydock reset removes this directory with everything in it.\n",
        )
    }

    /// Whether drydock may do with the directory what it likes, removing it too: it is marked, or empty, or a cluster of
    /// a version that left no mark.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_ours(&self) -> Result<bool> {
        if self.marker().exists() {
            return Ok(true);
        }
        let names = self.names()?;
        let cluster = || ClusterFile::read(self).is_ok_and(|file| file.is_some());
        Ok(names.is_empty() || (names.iter().all(|name| NAMES.contains(&&**name)) && cluster()))
    }

    /// What is in it.
    fn names(&self) -> Result<Vec<String>> {
        match fs::read_dir(&self.0) {
            Ok(entries) => Ok(entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.0.display())),
        }
    }
}

fn default(here: &Path, home: Option<PathBuf>) -> PathBuf {
    let root = here
        .ancestors()
        .find(|dir| dir.join(".drydock").is_dir() || dir.join(".git").exists());
    match (root, home) {
        (Some(root), _) => root.join(".drydock"),
        (None, Some(home)) => home.join(".local/share/drydock"),
        (None, None) => PathBuf::from("/var/lib/drydock"),
    }
}

/// Writes a file so that whoever reads it sees the old or the new content, never half of it.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let written = fs::File::create(&part).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&part, path)
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_drydocks_is_taken_and_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let check = |name: &str, files: &[&str], taken: bool| {
            let dir = DataDir(scratch.path().join(name));
            for file in files {
                let path = dir.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "{}").unwrap();
            }
            assert_eq!(dir.own().is_ok(), taken, "{name}");
            assert_eq!(dir.is_ours().unwrap(), taken, "{name}");
            let mode = fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode == 0o700, taken, "{name} has {mode:o}");
        };
        check("parent/new", &[], true);
        check("thesis", &["thesis.txt"], false);
        check("project", &["node/package.json", "drydock.log"], false);
        check("damaged", &["cluster.json"], false);
        let cluster =
            r#"{"node": "n", "network": 0, "podCidr": "10.0.0.0/24", "serviceCidr": "10.1.0.0/16", "apiPort": 0}"#;
        let unmarked = |name: &str, other: &str, taken: bool| {
            let dir = DataDir(scratch.path().join(name));
            fs::create_dir_all(dir.path().join(other)).unwrap();
            fs::write(dir.cluster_file(), cluster).unwrap();
            assert_eq!((dir.is_ours().unwrap(), dir.own().is_ok()), (taken, taken), "{name}");
        };
        unmarked("old", "node", true);
        unmarked("old-in-a-project", "src", false);
    }

    #[test]
    fn default_is_the_project_then_the_home() {
        let dir = std::env::temp_dir().join(format!("drydock-default-{}", std::process::id()));
        let inner = dir.join("project/a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir_all(dir.join("project/.git")).unwrap();
        let home = || Some(PathBuf::from("/home/me"));
        assert_eq!(default(&inner, home()), dir.join("project/.drydock"));
        fs::create_dir_all(dir.join("project/a/.drydock")).unwrap();
        assert_eq!(default(&inner, home()), dir.join("project/a/.drydock"));
        assert_eq!(default(&dir, home()), PathBuf::from("/home/me/.local/share/drydock"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
