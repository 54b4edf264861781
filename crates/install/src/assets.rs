//! Where charts and profiles come from: embedded in the binary, or a folder given with `--manifests`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rust_embed::RustEmbed;

/// Largest file read from a manifests folder, in bytes.
const LARGEST_FILE: u64 = 8 << 20;
/// Most files read from a manifests folder.
const MOST_FILES: usize = 2000;

#[derive(RustEmbed)]
#[folder = "../../manifests"]
struct Embedded;

/// Why charts or profiles could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// A folder or file cannot be read.
    #[error("cannot read {path}: {source}; --manifests wants a folder with charts/ and profiles/")]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file or folder is larger than any chart has reason to be.
    #[error("{0} is too large for a chart")]
    TooLarge(PathBuf),
}

/// Charts and profiles by path, for example `profiles/default.yaml`.
#[derive(Debug, Clone)]
pub struct Assets {
    files: BTreeMap<String, Cow<'static, str>>,
}

impl Assets {
    /// Those of this release.
    pub fn embedded() -> Self {
        let files = Embedded::iter().filter_map(|path| {
            let data = Embedded::get(&path)?.data;
            Some((
                path.into_owned(),
                Cow::Owned(String::from_utf8_lossy(&data).into_owned()),
            ))
        });
        Self { files: files.collect() }
    }

    /// Those of a folder that holds `charts/` and `profiles/` (or `manifests/` with both).
    pub fn folder(root: &Path) -> Result<Self, AssetError> {
        let nested = root.join("manifests");
        let root = if nested.is_dir() { nested } else { root.to_owned() };
        let mut files = BTreeMap::new();
        for part in ["charts", "profiles"] {
            read_tree(&root, &root.join(part), &mut files)?;
        }
        Ok(Self { files })
    }

    /// A file by its path.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|text| text.as_ref())
    }

    /// The same assets with one file replaced or added.
    pub fn with(mut self, path: &str, text: impl Into<String>) -> Self {
        self.files.insert(path.to_owned(), Cow::Owned(text.into()));
        self
    }

    /// Files below a folder, by their path inside it.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter_map(move |(path, text)| Some((path.strip_prefix(folder)?.strip_prefix('/')?, text.as_ref())))
    }

    /// Names of all profiles, sorted.
    pub fn profiles(&self) -> Vec<&str> {
        self.below("profiles")
            .filter_map(|(path, _)| path.strip_suffix(".yaml"))
            .collect()
    }
}

fn read_tree(root: &Path, folder: &Path, files: &mut BTreeMap<String, Cow<'static, str>>) -> Result<(), AssetError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AssetError::Read { path, source }
    };
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.is_dir() {
            read_tree(root, &path, files)?;
            continue;
        }
        let size = std::fs::metadata(&path).map_err(failed(&path))?.len();
        if size > LARGEST_FILE || files.len() >= MOST_FILES {
            return Err(AssetError::TooLarge(path));
        }
        let bytes = std::fs::read(&path).map_err(failed(&path))?;
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .to_string_lossy()
            .replace('\\', "/");
        files.insert(name, Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(())
}
