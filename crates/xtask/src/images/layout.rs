//! An OCI image layout (image-spec 1.1): blobs by digest, and an index that names the images.

use super::layer::{self, Item};
use super::recipes::{Image, Recipe};
use anyhow::{Context, Result};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Not compressed: images are read on the machine that wrote them, and time matters more than room.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A blob that was written.
#[derive(Debug, Clone)]
struct Blob {
    digest: String,
    size: u64,
}

struct Layout {
    blobs: PathBuf,
    total: u64,
    /// Layers already written, by what is in them.
    layers: BTreeMap<String, Blob>,
}

/// Writes the layout anew; returns the size of its blobs (bytes).
pub fn write(target: &Path, recipe: &Recipe) -> Result<u64> {
    let partial = target.with_extension("partial");
    let _ = std::fs::remove_dir_all(&partial);
    let blobs = partial.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).with_context(|| format!("create {}", blobs.display()))?;
    let mut layout = Layout {
        blobs,
        total: 0,
        layers: BTreeMap::new(),
    };
    let mut manifests = Vec::new();
    for image in &recipe.images {
        let manifest = layout.image(image)?;
        for reference in &image.references {
            manifests.push(json!({
                "mediaType": MANIFEST, "digest": manifest.digest, "size": manifest.size,
                "platform": {"architecture": architecture(), "os": "linux"},
                "annotations": {"org.opencontainers.image.ref.name": reference, "io.containerd.image.name": reference},
            }));
        }
    }
    let put = |name: &str, value: Value| {
        std::fs::write(partial.join(name), value.to_string()).with_context(|| format!("write {name}"))
    };
    put("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))?;
    put(
        "index.json",
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}),
    )?;
    let _ = std::fs::remove_dir_all(target);
    std::fs::rename(&partial, target).with_context(|| format!("rename to {}", target.display()))?;
    Ok(layout.total)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Layout {
    fn image(&mut self, image: &Image) -> Result<Blob> {
        let layers = image
            .layers
            .iter()
            .map(|items| self.layer(items))
            .collect::<Result<Vec<_>>>()?;
        let mut process = json!({"Env": env(image), "Entrypoint": image.entrypoint, "WorkingDir": "/"});
        if !image.cmd.is_empty() {
            process["Cmd"] = json!(image.cmd);
        }
        if !image.user.is_empty() {
            process["User"] = json!(image.user);
        }
        let diff_ids: Vec<&str> = layers.iter().map(|l| l.digest.as_str()).collect();
        let config = json!({"architecture": architecture(), "os": "linux", "created": "1970-01-01T00:00:00Z", "config": process, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.small(&config)?;
        let layers: Vec<Value> = layers
            .iter()
            .map(|l| json!({"mediaType": LAYER, "digest": l.digest, "size": l.size}))
            .collect();
        self.small(&json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size}, "layers": layers}))
    }

    fn small(&mut self, value: &Value) -> Result<Blob> {
        let text = value.to_string();
        self.blob(|out| out.write_all(text.as_bytes()).context("write"))
    }

    fn layer(&mut self, items: &[Item]) -> Result<Blob> {
        let key = format!("{items:?}");
        if let Some(known) = self.layers.get(&key) {
            return Ok(known.clone());
        }
        let blob = self.blob(|out| layer::write(items, out))?;
        self.layers.insert(key, blob.clone());
        Ok(blob)
    }

    fn blob(&mut self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Blob> {
        let partial = self.blobs.join("partial");
        let file = std::fs::File::create(&partial).with_context(|| format!("create {}", partial.display()))?;
        let mut out = Hashing {
            inner: BufWriter::with_capacity(1 << 20, file),
            hash: Hash::new(&SHA256),
            size: 0,
        };
        write(&mut out)?;
        out.flush().context("write")?;
        let hex: String = out.hash.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let target = self.blobs.join(&hex);
        if !target.exists() {
            self.total += out.size;
        }
        std::fs::rename(&partial, &target).with_context(|| format!("rename to {}", target.display()))?;
        Ok(Blob {
            digest: format!("sha256:{hex}"),
            size: out.size,
        })
    }
}

fn env(image: &Image) -> Vec<String> {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_string();
    std::iter::once(path)
        .chain(image.env.iter().map(|(k, v)| format!("{k}={v}")))
        .collect()
}

struct Hashing<W> {
    inner: W,
    hash: Hash,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(data)?;
        self.hash.update(&data[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn images_share_layers_and_repeat_exactly() {
        let dir = tempfile::tempdir().unwrap();
        let image = |version: &'static str| Image {
            references: vec![format!("a/b:{version}")],
            layers: vec![vec![Item::Text {
                path: "x".into(),
                text: "shared".into(),
            }]],
            env: vec![("V", version.into())],
            entrypoint: vec!["/x"],
            cmd: vec![],
            user: "",
        };
        let recipe = Recipe {
            name: "r",
            images: vec![image("1"), image("2")],
        };
        let index = |name: &str| {
            write(&dir.path().join(name), &recipe).unwrap();
            std::fs::read_to_string(dir.path().join(name).join("index.json")).unwrap()
        };
        assert_eq!(index("one"), index("two"));
        // One layer, two configurations, two manifests.
        assert_eq!(
            std::fs::read_dir(dir.path().join("one/blobs/sha256")).unwrap().count(),
            5
        );
    }
}
