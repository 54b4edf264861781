//! Loading images, and finding those that were built beside this program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

use anyhow::{Context, Result};
use drydock_node::image::{ImageStore, Reference};

use crate::data_dir::{self, DataDir};
use crate::out;

fn store(dir: &DataDir) -> Result<ImageStore> {
    let path = dir.path().join("node/images");
    ImageStore::open(&path).with_context(|| format!("cannot open the images in {}", path.display()))
}

/// Loads one image (or archive of images) and answers with its names.
///
/// # Errors
/// It is no image, or the store cannot be written.
pub fn load(dir: &DataDir, path: &Path, name: Option<&str>) -> Result<Vec<String>> {
    let name = match name {
        Some(text) => Some(Reference::parse(text).with_context(|| format!("--name {text}: no image reference"))?),
        None => None,
    };
    let loaded = store(dir)?.load(path, name.as_ref());
    let loaded = loaded.with_context(|| format!("cannot load {}", path.display()))?;
    Ok(loaded.into_iter().map(|image| image.reference.to_string()).collect())
}

/// Images that `make build` (or a release) has put beside this program.
fn beside_program() -> Vec<PathBuf> {
    let Ok(program) = std::env::current_exe() else {
        return Vec::new();
    };
    // target/<profile>/drydock, or bin/drydock of a release.
    let folders = program
        .parent()
        .map(|folder| [folder.join("../images"), folder.join("../../images")]);
    let entries = folders
        .into_iter()
        .flatten()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten();
    let mut images: Vec<_> = entries.map(|entry| entry.path()).collect();
    images.retain(|path| path.extension().is_some_and(|end| end == "tar") || path.join("oci-layout").exists());
    images.sort();
    images.dedup();
    images
}

/// Loads what was built beside this program and is new, and says so.
///
/// # Errors
/// An image cannot be loaded.
pub fn load_built(dir: &DataDir) -> Result<()> {
    for image in not_loaded(dir, beside_program()) {
        let began = Instant::now();
        let names = load(dir, &image, None)?;
        remember(dir, &image)?;
        let took = began.elapsed().as_secs_f64();
        out::line(format_args!("  {:<12} {} ({took:.1} s)", "image", names.join(" ")))?;
    }
    Ok(())
}

/// Of these images those that are new or changed since [`remember`] was told of them.
fn not_loaded(dir: &DataDir, images: Vec<PathBuf>) -> Vec<PathBuf> {
    let known = known(dir);
    images
        .into_iter()
        .filter(|image| known.get(image) != Some(&stamp(image)))
        .collect()
}

/// Remembers that an image was loaded.
fn remember(dir: &DataDir, image: &Path) -> Result<()> {
    let mut known = known(dir);
    known.insert(image.to_owned(), stamp(image));
    data_dir::write(&dir.loaded_file(), &serde_json::to_vec(&known)?)
}

fn known(dir: &DataDir) -> BTreeMap<PathBuf, String> {
    fs::read(dir.loaded_file())
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Size and time of change, of an OCI layout those of its index.
fn stamp(image: &Path) -> String {
    let index = image.join("index.json");
    let file = if index.exists() { &index } else { image };
    let Ok(meta) = fs::metadata(file) else {
        return String::new();
    };
    let changed = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    format!("{} {}", meta.len(), changed.as_nanos())
}
