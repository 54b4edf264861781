//! Where a cluster lives: its data directory and the files in it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

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

    /// The file that makes a directory a cluster's.
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
