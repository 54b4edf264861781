//! Unpacking one layer into a folder that overlayfs can stack.

use super::hex;
use crate::beneath;
use crate::error::{Error, Result};
use aws_lc_rs::digest::{Context, SHA256};
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Most bytes one layer may unpack to.
const MAX_LAYER: u64 = 16 << 30;
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// Reads through and hashes what passes.
struct Hashed<R> {
    inner: R,
    context: Context,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.context.update(&buf[..n]);
        Ok(n)
    }
}

/// Unpacks the (possibly gzipped) tar `source` into `target` and checks that its uncompressed form hashes to `diff_id`.
///
/// # Errors
/// If the tar is broken, larger than allowed, or not what `diff_id` says. `target` is then incomplete and must be removed.
pub(super) fn unpack(source: &Path, diff_id: &str, target: &Path) -> Result<()> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(source).map_err(Error::io("open", source))?);
    let gzip = std::io::BufRead::fill_buf(&mut file)
        .map_err(Error::io("read", source))?
        .starts_with(&[0x1f, 0x8b]);
    let plain: Box<dyn Read> = if gzip {
        Box::new(GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut reader = Hashed {
        inner: plain.take(MAX_LAYER),
        context: Context::new(&SHA256),
    };
    std::fs::create_dir_all(target).map_err(Error::io("create", target))?;
    {
        let mut archive = tar::Archive::new(&mut reader);
        archive.set_preserve_ownerships(true);
        archive.set_preserve_permissions(true);
        archive.set_unpack_xattrs(true);
        archive.set_overwrite(true);
        for entry in archive.entries().map_err(Error::io("read", source))? {
            let mut entry = entry.map_err(Error::io("read", source))?;
            let path = entry.path().map_err(Error::io("read", source))?.into_owned();
            match path.file_name().and_then(|n| n.to_str()) {
                Some(OPAQUE) => opaque(target, &path)?,
                Some(name) if name.starts_with(WHITEOUT) => whiteout(target, &path, &name[WHITEOUT.len()..])?,
                _ => {
                    entry.unpack_in(target).map_err(Error::io("unpack", &path))?;
                }
            }
        }
    }
    // The digest covers the padding behind the last entry too.
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(Error::io("read", source))?;
    let digest = format!("sha256:{}", hex(reader.context.finish().as_ref()));
    if digest == diff_id {
        Ok(())
    } else {
        Err(Error::Image {
            image: source.display().to_string(),
            message: format!("layer is {digest}, the image says {diff_id}: the archive is damaged"),
        })
    }
}

/// The folder that a mark is about. Links are no way there: a layer may carry one that leads out of it.
fn parent(target: &Path, path: &Path) -> Result<OwnedFd> {
    let parent = path.parent().unwrap_or(Path::new(""));
    beneath::open(target, parent, Some(0o755)).map_err(|error| Error::Image {
        image: path.display().to_string(),
        message: format!("path leaves the layer: {error}"),
    })
}

/// A deleted name is a character device 0:0 for overlayfs.
fn whiteout(target: &Path, path: &Path, name: &str) -> Result<()> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknodat};
    mknodat(
        &parent(target, path)?,
        name,
        SFlag::S_IFCHR,
        Mode::empty(),
        makedev(0, 0),
    )
    .or_else(|e| if e == nix::Error::EEXIST { Ok(()) } else { Err(e) })
    .map_err(Error::errno("mark deleted", path))
}

/// A folder that hides the folders below it carries an extended attribute.
fn opaque(target: &Path, path: &Path) -> Result<()> {
    let dir = parent(target, path)?;
    xattr::set_deref(beneath::in_proc(&dir), "trusted.overlay.opaque", b"y").map_err(Error::io("mark opaque", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layer(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, link) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(0);
            header.set_mode(0o755);
            header.set_uid(nix::unistd::getuid().as_raw().into());
            header.set_gid(nix::unistd::getgid().as_raw().into());
            if link.is_empty() {
                builder.append_data(&mut header, path, std::io::empty()).unwrap();
            } else {
                builder.append_link(&mut header, path, link).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn marks_stay_in_the_layer() {
        if !nix::unistd::geteuid().is_root() {
            return println!("skipped: making devices needs root");
        }
        let scratch = tempfile::tempdir().unwrap();
        let outside = scratch.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let unpacked = |name: &str, entries: &[(&str, tar::EntryType, &str)]| {
            let (source, target) = (scratch.path().join(format!("{name}.tar")), scratch.path().join(name));
            let data = layer(entries);
            let id = format!("sha256:{}", crate::image::sha256(&data));
            std::fs::write(&source, data).unwrap();
            unpack(&source, &id, &target).map(|()| target)
        };
        let (file, dir, link) = (
            tar::EntryType::Regular,
            tar::EntryType::Directory,
            tar::EntryType::Symlink,
        );
        let good = unpacked(
            "good",
            &[("a", dir, ""), ("a/.wh.gone", file, ""), ("b/.wh..wh..opq", file, "")],
        )
        .unwrap();
        use std::os::unix::fs::FileTypeExt;
        assert!(
            std::fs::metadata(good.join("a/gone"))
                .unwrap()
                .file_type()
                .is_char_device()
        );
        assert_eq!(
            xattr::get(good.join("b"), "trusted.overlay.opaque").unwrap(),
            Some(b"y".to_vec())
        );
        let away = outside.to_str().unwrap();
        for mark in ["a/.wh.gone", "a/.wh..wh..opq", "a/new/.wh.gone"] {
            let error = unpacked("bad", &[("a", link, away), (mark, file, "")]).unwrap_err();
            assert!(error.to_string().contains("leaves the layer"), "{mark}: {error}");
            std::fs::remove_dir_all(scratch.path().join("bad")).unwrap();
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(xattr::get(&outside, "trusted.overlay.opaque").unwrap(), None);
    }
}
