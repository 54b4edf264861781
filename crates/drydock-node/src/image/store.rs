//! The store: references → images → layers, on disk so that `drydock load` in another process is seen at once.

use super::archive::{self, Found, MAX_LAYERS, Process};
use super::{Reference, layer, outer};
use crate::error::{Error, Result};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Images of one node, in one folder.
#[derive(Debug, Clone)]
pub struct ImageStore {
    dir: PathBuf,
}

/// An image that is ready to run.
#[derive(Debug, Clone)]
pub struct Image {
    /// `repository@sha256:…`, what the container status reports as `imageID`.
    pub id: String,
    /// Unpacked layers, lowest first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) process: Process,
}

/// What a load brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image's reference.
    pub reference: Reference,
    /// Digest of its manifest.
    pub digest: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    references: BTreeMap<Reference, String>,
    images: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    config_digest: String,
    diff_ids: Vec<String>,
    process: Process,
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not an image reference")))
    }
}

impl ImageStore {
    /// Opens the store in `dir`, creating the folder.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub fn open(dir: &Path) -> Result<Self> {
        let layers = dir.join("layers");
        std::fs::create_dir_all(&layers).map_err(Error::io("create", &layers))?;
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// Loads every image of an OCI layout or docker archive (a folder, or a tar, gzipped or not). `name` gives the
    /// reference to images that carry none. Layers that are already there are not read again.
    ///
    /// # Errors
    /// If the archive is neither, is damaged, or an image has no name.
    pub fn load(&self, source: &Path, name: Option<&Reference>) -> Result<Vec<Loaded>> {
        if source.is_dir() {
            return self.load_dir(source, name);
        }
        let scratch = self.dir.join(format!("load-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&scratch);
        let done = outer::extract(source, &scratch).and_then(|()| self.load_dir(&scratch, name));
        let _ = std::fs::remove_dir_all(&scratch);
        done
    }

    fn load_dir(&self, dir: &Path, name: Option<&Reference>) -> Result<Vec<Loaded>> {
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let mut loaded = Vec::new();
        for found in archive::read(dir)? {
            self.add(&mut index, found, name, dir, &mut loaded)?;
        }
        self.prune(&mut index)?;
        Ok(loaded)
    }

    fn add(
        &self,
        index: &mut Index,
        found: Found,
        name: Option<&Reference>,
        dir: &Path,
        loaded: &mut Vec<Loaded>,
    ) -> Result<()> {
        let mut references = found.references;
        if references.is_empty() {
            references.extend(name.cloned());
        }
        if references.is_empty() {
            return Err(Error::Image {
                image: dir.display().to_string(),
                message: format!("image {} carries no name: give one", found.digest),
            });
        }
        for source in &found.layers {
            let target = self.layer_dir(&source.diff_id);
            if !target.is_dir() {
                let partial = target.with_extension("partial");
                let _ = std::fs::remove_dir_all(&partial);
                layer::unpack(&source.path, &source.diff_id, &partial)?;
                std::fs::rename(&partial, &target).map_err(Error::io("rename", &partial))?;
            }
        }
        let entry = Entry {
            config_digest: found.config_digest,
            diff_ids: found.config.rootfs.diff_ids,
            process: found.config.config,
        };
        index.images.insert(found.digest.clone(), entry);
        for reference in references {
            index.references.insert(reference.clone(), found.digest.clone());
            loaded.push(Loaded {
                reference,
                digest: found.digest.clone(),
            });
        }
        Ok(())
    }

    /// The image behind a reference, `None` if it was never loaded.
    ///
    /// # Errors
    /// If the store itself cannot be read.
    pub fn find(&self, reference: &Reference) -> Result<Option<Image>> {
        let index = self.index()?;
        let digest = match reference.digest() {
            Some(digest) => Some(digest.to_string()),
            None => index.references.get(reference).cloned(),
        };
        let Some((digest, entry)) = digest.and_then(|d| index.images.get(&d).map(|e| (d, e))) else {
            return Ok(None);
        };
        if entry.diff_ids.len() > MAX_LAYERS {
            return Err(Error::Image {
                image: reference.to_string(),
                message: "too many layers".into(),
            });
        }
        let layers = entry.diff_ids.iter().map(|id| self.layer_dir(id)).collect();
        Ok(Some(Image {
            id: format!("{}@{digest}", reference.repository()),
            layers,
            process: entry.process.clone(),
        }))
    }

    /// All references, with the digest each points to.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn list(&self) -> Result<BTreeMap<Reference, String>> {
        Ok(self.index()?.references)
    }

    /// Forgets images that no reference names any more, and removes layers that neither an image nor a running container
    /// uses.
    fn prune(&self, index: &mut Index) -> Result<()> {
        let named: BTreeSet<String> = index.references.values().cloned().collect();
        index.images.retain(|digest, _| named.contains(digest));
        self.write(index)?;
        let ids = index.images.values().flat_map(|e| &e.diff_ids);
        let used: BTreeSet<PathBuf> = ids.map(|id| self.layer_dir(id)).collect();
        // A container's root names its layers in its mount options.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let layers = self.dir.join("layers");
        let entries = std::fs::read_dir(&layers).map_err(Error::io("list", &layers))?;
        for path in entries.flatten().map(|e| e.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !used.contains(&path) && !mounts.contains(name.as_ref()) {
                let _ = std::fs::remove_dir_all(&path);
            }
        }
        Ok(())
    }

    fn layer_dir(&self, diff_id: &str) -> PathBuf {
        // Half of the digest: the paths of all layers share one page of mount options.
        let safe: String = diff_id
            .trim_start_matches("sha256:")
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(32)
            .collect();
        self.dir.join("layers").join(safe)
    }

    fn lock(&self) -> Result<Flock<File>> {
        let path = self.dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| Error::errno("lock", &path)(e))
    }

    fn index(&self) -> Result<Index> {
        let path = self.dir.join("index.json");
        match std::fs::read(&path) {
            Ok(data) => serde_json::from_slice(&data).map_err(|e| Error::Image {
                image: path.display().to_string(),
                message: format!("broken store index: {e}; remove the file and load the images again"),
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    fn write(&self, index: &Index) -> Result<()> {
        let path = self.dir.join("index.json");
        let partial = path.with_extension("partial");
        let data = serde_json::to_vec_pretty(index).map_err(|e| Error::Image {
            image: path.display().to_string(),
            message: e.to_string(),
        })?;
        std::fs::write(&partial, data).map_err(Error::io("write", &partial))?;
        std::fs::rename(&partial, &path).map_err(Error::io("rename", &partial))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::image::sha256;
    use serde_json::json;

    fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, data) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            // The tests run as whoever runs them: files belong to that user.
            header.set_uid(nix::unistd::getuid().as_raw().into());
            header.set_gid(nix::unistd::getgid().as_raw().into());
            header.set_cksum();
            builder.append_data(&mut header, path, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// Writes an OCI layout with one image of one layer.
    fn layout(dir: &Path, name: Option<&str>, files: &[(&str, &str)]) {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let put = |data: &[u8]| {
            let digest = sha256(data);
            std::fs::write(blobs.join(&digest), data).unwrap();
            format!("sha256:{digest}")
        };
        let layer = put(&tar_of(files));
        let config = put(json!({"config": {"Env": ["A=1"], "Entrypoint": ["/x"]}, "rootfs": {"type": "layers", "diff_ids": [layer]}}).to_string().as_bytes());
        let manifest = put(json!({"schemaVersion": 2, "config": {"digest": config}, "layers": [{"digest": layer, "mediaType": "application/vnd.oci.image.layer.v1.tar"}]}).to_string().as_bytes());
        let annotations = name.map_or(json!({}), |n| json!({"org.opencontainers.image.ref.name": n}));
        std::fs::write(
            dir.join("index.json"),
            json!({"manifests": [{"digest": manifest, "annotations": annotations}]}).to_string(),
        )
        .unwrap();
    }

    #[test]
    fn loads_finds_and_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let (source, store) = (
            dir.path().join("layout"),
            ImageStore::open(&dir.path().join("store")).unwrap(),
        );
        layout(&source, Some("docker.io/a/b:1"), &[("etc/hi", "hello")]);
        let loaded = store.load(&source, None).unwrap();
        assert_eq!(loaded[0].reference.as_str(), "docker.io/a/b:1");
        let image = store.find(&Reference::parse("a/b:1").unwrap()).unwrap().unwrap();
        assert_eq!(
            std::fs::read_to_string(image.layers[0].join("etc/hi")).unwrap(),
            "hello"
        );
        assert_eq!(
            (image.process.entrypoint, image.id),
            (
                Some(vec!["/x".to_string()]),
                format!("docker.io/a/b@{}", loaded[0].digest)
            )
        );
        assert!(store.find(&Reference::parse("a/b:2").unwrap()).unwrap().is_none());
        // The same name for other content: the old layer goes with the old image.
        layout(&source, Some("docker.io/a/b:1"), &[("etc/hi", "again")]);
        store.load(&source, None).unwrap();
        let newer = store.find(&Reference::parse("a/b:1").unwrap()).unwrap().unwrap();
        assert!(newer.layers[0].is_dir() && !image.layers[0].exists());
    }

    #[test]
    fn refuses_what_is_damaged_or_nameless() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("store")).unwrap();
        let source = dir.path().join("layout");
        layout(&source, None, &[("a", "b")]);
        assert!(
            store
                .load(&source, None)
                .unwrap_err()
                .to_string()
                .contains("carries no name")
        );
        assert_eq!(store.load(&source, Reference::parse("x").as_ref()).unwrap().len(), 1);
        for blob in std::fs::read_dir(source.join("blobs/sha256")).unwrap() {
            std::fs::write(blob.unwrap().path(), "{}").unwrap();
        }
        assert!(store.load(&source, None).is_err());
        assert!(
            store
                .load(dir.path(), None)
                .unwrap_err()
                .to_string()
                .contains("neither an OCI layout")
        );
    }
}
