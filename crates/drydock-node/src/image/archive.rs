//! Reading what others wrote: OCI image layouts and docker archives, as a folder or as a tar of one.

use super::{Reference, sha256};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest index, manifest or configuration read (bytes).
const MAX_JSON: u64 = 4 << 20;
/// Most layers of one image: what one overlay mount can take.
pub(super) const MAX_LAYERS: usize = 127;

/// One image found in an archive.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) references: Vec<Reference>,
    /// `sha256:…` of the manifest (of the configuration, for docker archives without one).
    pub(super) digest: String,
    /// `sha256:…` of the configuration: the image's ID.
    pub(super) config_digest: String,
    pub(super) config: Config,
    pub(super) layers: Vec<LayerSource>,
}

/// Where a layer is read from and what it must hash to once uncompressed.
#[derive(Debug)]
pub(super) struct LayerSource {
    pub(super) path: PathBuf,
    pub(super) diff_id: String,
}

/// The part of an image configuration that matters to a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    pub(super) config: Process,
    #[serde(default)]
    pub(super) rootfs: RootFs,
}

/// `config` of the image configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Process {
    pub(crate) user: Option<String>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) working_dir: Option<String>,
    pub(crate) stop_signal: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub(super) diff_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// All images of the layout or docker archive unpacked in `dir`.
pub(super) fn read(dir: &Path) -> Result<Vec<Found>> {
    if dir.join("index.json").is_file() {
        let index: Index = json(&small(&dir.join("index.json"))?, dir)?;
        let mut tags = docker_tags(dir)?;
        return index.manifests.iter().map(|d| oci(dir, d, &mut tags)).collect();
    }
    if dir.join("manifest.json").is_file() {
        let entries: Vec<DockerEntry> = json(&small(&dir.join("manifest.json"))?, dir)?;
        return entries.into_iter().map(|e| docker(dir, e)).collect();
    }
    Err(bad(
        dir,
        "neither an OCI layout (index.json) nor a docker archive (manifest.json)",
    ))
}

fn bad(image: &Path, message: impl Into<String>) -> Error {
    Error::Image {
        image: image.display().to_string(),
        message: message.into(),
    }
}

fn json<T: serde::de::DeserializeOwned>(data: &[u8], what: &Path) -> Result<T> {
    serde_json::from_slice(data).map_err(|e| bad(what, format!("not the expected JSON: {e}")))
}

fn small(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let mut data = Vec::new();
    file.take(MAX_JSON + 1)
        .read_to_end(&mut data)
        .map_err(Error::io("read", path))?;
    if data.len() as u64 > MAX_JSON {
        Err(bad(path, format!("larger than {MAX_JSON} bytes")))
    } else {
        Ok(data)
    }
}

fn blob_path(dir: &Path, digest: &str) -> Result<PathBuf> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(dir.join("blobs/sha256").join(hex))
        }
        _ => Err(bad(dir, format!("digest {digest:?} is not sha256"))),
    }
}

fn blob(dir: &Path, digest: &str) -> Result<Vec<u8>> {
    let path = blob_path(dir, digest)?;
    let data = small(&path)?;
    if digest.strip_prefix("sha256:") == Some(sha256(&data).as_str()) {
        Ok(data)
    } else {
        Err(bad(&path, "content does not have the digest of its name"))
    }
}

/// `docker save` of today writes an OCI layout plus a manifest.json; the tags are only whole in the latter.
fn docker_tags(dir: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let path = dir.join("manifest.json");
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let entries: Vec<DockerEntry> = json(&small(&path)?, dir)?;
    Ok(entries
        .into_iter()
        .map(|e| {
            (
                e.config
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
                    .trim_end_matches(".json")
                    .to_string(),
                e.repo_tags.unwrap_or_default(),
            )
        })
        .collect())
}

fn oci(dir: &Path, top: &Descriptor, tags: &mut BTreeMap<String, Vec<String>>) -> Result<Found> {
    let mut digest = top.digest.clone();
    if top.media_type.ends_with("image.index.v1+json") || top.media_type.ends_with("manifest.list.v2+json") {
        let inner: Index = json(&blob(dir, &digest)?, dir)?;
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let fits = |d: &&Descriptor| {
            d.platform
                .as_ref()
                .is_none_or(|p| p.os == "linux" && p.architecture == arch)
        };
        let chosen = inner
            .manifests
            .iter()
            .find(fits)
            .ok_or_else(|| bad(dir, format!("no manifest for linux/{arch}")))?;
        digest = chosen.digest.clone();
    }
    let manifest: Manifest = json(&blob(dir, &digest)?, dir)?;
    let config_digest = manifest.config.digest;
    let config: Config = json(&blob(dir, &config_digest)?, dir)?;
    let paths = manifest.layers.iter().map(|l| {
        if l.media_type.ends_with("zstd") {
            Err(bad(
                dir,
                "zstd layers are not supported: save the image with gzip or no compression",
            ))
        } else {
            blob_path(dir, &l.digest)
        }
    });
    let layers = pair(dir, paths.collect::<Result<_>>()?, &config)?;
    let mut names: Vec<&str> = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
        .iter()
        .filter_map(|k| top.annotations.get(*k))
        .map(String::as_str)
        .collect();
    names.truncate(1);
    let by_docker = tags
        .remove(config_digest.trim_start_matches("sha256:"))
        .unwrap_or_default();
    // A bare tag ("v1") is what skopeo writes when it was not told a name: it does not say which image this is.
    let names = names
        .into_iter()
        .filter(|n| n.contains(['/', ':']))
        .chain(by_docker.iter().map(String::as_str));
    let mut references: Vec<Reference> = names.filter_map(Reference::parse).collect();
    references.dedup();
    Ok(Found {
        references,
        digest,
        config_digest,
        config,
        layers,
    })
}

fn docker(dir: &Path, entry: DockerEntry) -> Result<Found> {
    let config_data = small(&inside(dir, &entry.config)?)?;
    let config: Config = json(&config_data, dir)?;
    let digest = format!("sha256:{}", sha256(&config_data));
    let layers = pair(
        dir,
        entry.layers.iter().map(|l| inside(dir, l)).collect::<Result<_>>()?,
        &config,
    )?;
    let references = entry
        .repo_tags
        .iter()
        .flatten()
        .filter_map(|t| Reference::parse(t))
        .collect();
    Ok(Found {
        references,
        config_digest: digest.clone(),
        digest,
        config,
        layers,
    })
}

/// A path named by the archive, which must stay inside of it.
fn inside(dir: &Path, name: &str) -> Result<PathBuf> {
    let plain = Path::new(name)
        .components()
        .all(|c| matches!(c, std::path::Component::Normal(_)));
    if plain {
        Ok(dir.join(name))
    } else {
        Err(bad(dir, format!("path {name:?} leaves the archive")))
    }
}

fn pair(dir: &Path, paths: Vec<PathBuf>, config: &Config) -> Result<Vec<LayerSource>> {
    let ids = &config.rootfs.diff_ids;
    if paths.len() != ids.len() || paths.len() > MAX_LAYERS {
        return Err(bad(
            dir,
            format!(
                "{} layers for {} diff IDs (at most {MAX_LAYERS})",
                paths.len(),
                ids.len()
            ),
        ));
    }
    Ok(paths
        .into_iter()
        .zip(ids.iter().cloned())
        .map(|(path, diff_id)| LayerSource { path, diff_id })
        .collect())
}
