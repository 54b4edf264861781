//! Unpacking one layer into a folder that overlayfs can stack.

use super::hex;
use crate::error::{Error, Result};
use aws_lc_rs::digest::{Context, SHA256};
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
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

fn parent(target: &Path, path: &Path) -> Result<std::path::PathBuf> {
    let parent = path.parent().unwrap_or(Path::new(""));
    if !parent
        .components()
        .all(|c| matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir))
    {
        return Err(Error::Image {
            image: path.display().to_string(),
            message: "path leaves the layer".into(),
        });
    }
    let dir = target.join(parent);
    std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    Ok(dir)
}

/// A deleted name is a character device 0:0 for overlayfs.
fn whiteout(target: &Path, path: &Path, name: &str) -> Result<()> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let place = parent(target, path)?.join(name);
    mknod(&place, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))
        .or_else(|e| if e == nix::Error::EEXIST { Ok(()) } else { Err(e) })
        .map_err(Error::errno("mark deleted", &place))
}

/// A folder that hides the folders below it carries an extended attribute.
fn opaque(target: &Path, path: &Path) -> Result<()> {
    let dir = parent(target, path)?;
    xattr::set(&dir, "trusted.overlay.opaque", b"y").map_err(Error::io("mark opaque", &dir))
}
