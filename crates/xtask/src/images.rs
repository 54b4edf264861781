//! Container images without a container engine: our binaries, the shared libraries they need, and a few files, as OCI
//! layouts that drydock, skopeo and (packed as tar) docker take.
//!
//! Same input, same bytes: entries are sorted, times are zero, nothing names the machine.

mod layer;
mod layout;
mod libraries;
mod recipes;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

/// What to build.
pub struct Request {
    /// Folder below `target/` (`dev` is `debug`).
    pub profile: String,
    /// Folder of the layouts.
    pub out: PathBuf,
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// Names of the layouts to build; empty for all.
    pub only: Vec<String>,
}

impl Request {
    fn binary(&self, name: &str) -> PathBuf {
        let folder = if self.profile == "dev" { "debug" } else { &self.profile };
        let built = Path::new("target").join(folder).join(name);
        // A release has no target folder, only programs.
        if built.exists() {
            built
        } else {
            Path::new("bin").join(name)
        }
    }
}

/// Builds every layout whose inputs have changed.
///
/// # Errors
/// If a binary or a tool that belongs into an image is missing.
pub fn build(request: &Request) -> Result<()> {
    for recipe in recipes::all(request) {
        if !request.only.is_empty() && !request.only.iter().any(|o| o == recipe.name) {
            continue;
        }
        let target = request.out.join(recipe.name);
        let stamp_file = request.out.join(format!("{}.inputs", recipe.name));
        let stamp = stamp(&recipe).with_context(|| format!("image {}", recipe.name))?;
        if target.join("index.json").is_file() && std::fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
            println!("    {} is fresh", recipe.name);
            continue;
        }
        let begun = Instant::now();
        let bytes = layout::write(&target, &recipe).with_context(|| format!("image {}", recipe.name))?;
        std::fs::write(&stamp_file, stamp).with_context(|| format!("write {}", stamp_file.display()))?;
        println!(
            "    {} ({} MB, {:.1} s)",
            recipe.name,
            bytes >> 20,
            begun.elapsed().as_secs_f32()
        );
    }
    Ok(())
}

/// Size and time of every input, and the recipe itself.
fn stamp(recipe: &recipes::Recipe) -> Result<String> {
    let mut out = format!("{recipe:#?}\n");
    for path in recipe.inputs() {
        let how = if path.is_absolute() {
            "install it (tools/needs.sh)"
        } else {
            "build it first (make bins)"
        };
        let meta = std::fs::metadata(path).with_context(|| format!("{} is missing: {how}", path.display()))?;
        let changed = meta
            .modified()
            .ok()
            .and_then(|m| m.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        out += &format!("{} {} {}\n", path.display(), meta.len(), changed.as_nanos());
    }
    Ok(out)
}
