//! Unpacking the outer tar of an archive, in which layers and descriptions of images are plain files.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

/// Most bytes that the files of one archive may have together.
const MAX_ARCHIVE: u64 = 64 << 30;
/// Most files of one archive.
const MAX_FILES: usize = 10_000;

/// Writes the files of the (possibly gzipped) tar `source` below `target`. Links are not made: what one names, which
/// `docker save` writes for a layer that several images share, becomes another name of that file.
///
/// # Errors
/// The tar is broken or too large, or a name leads out of it.
pub(super) fn extract(source: &Path, target: &Path) -> Result<()> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(source).map_err(Error::io("open", source))?);
    let gzip = file
        .fill_buf()
        .map_err(Error::io("read", source))?
        .starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn Read> = if gzip {
        Box::new(flate2::read::GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let bad = |message: String| Error::Image {
        image: source.display().to_string(),
        message,
    };
    let read = |e| Error::io("read", source)(e);
    std::fs::create_dir_all(target).map_err(Error::io("create", target))?;
    let (mut links, mut size, mut count) = (BTreeMap::new(), 0_u64, 0);
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(read)? {
        // What the library says of other files quotes them.
        let mut entry = entry.map_err(|error| match (error.kind(), count) {
            (std::io::ErrorKind::Other | std::io::ErrorKind::InvalidData, 0) => {
                bad("this is no tar archive: give an image archive (docker save) or a folder in OCI layout".into())
            }
            _ => read(error),
        })?;
        let name = entry.path().map_err(read)?.into_owned();
        let path = inside(&name).ok_or_else(|| bad(format!("{} leaves the archive", name.display())))?;
        size = size.saturating_add(entry.size());
        count += 1;
        if size > MAX_ARCHIVE || count > MAX_FILES {
            return Err(bad(format!("more than {MAX_FILES} files or {MAX_ARCHIVE} bytes")));
        }
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let place = target.join(&path);
            folder_of(&place)?;
            let written = File::create(&place).and_then(|mut file| std::io::copy(&mut entry, &mut file));
            written.map_err(Error::io("unpack", &place))?;
        } else if kind.is_symlink() || kind.is_hard_link() {
            let to = entry.link_name().map_err(read)?.unwrap_or_default().into_owned();
            let from = if kind.is_symlink() { path.parent() } else { None };
            let to = inside(&from.unwrap_or(Path::new("")).join(&to));
            links.insert(
                path,
                to.ok_or_else(|| bad(format!("{} leads out of the archive", name.display())))?,
            );
        }
    }
    for (path, to) in links {
        let (path, to) = (target.join(path), target.join(to));
        folder_of(&path)?;
        std::fs::hard_link(&to, &path).map_err(Error::io("link", &path))?;
    }
    Ok(())
}

fn folder_of(file: &Path) -> Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))
}

/// The path without `.` and `..`; `None` if it leads out.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir if plain.pop() => {}
            _ => return None,
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(entries: &[(&str, &str)], expected: Result<&[(&str, &str)], &str>) {
        let scratch = tempfile::tempdir().unwrap();
        let (source, target) = (scratch.path().join("a.tar"), scratch.path().join("out"));
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_gnu();
            // Written as they are: the library would refuse bad names.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_mode(0o644);
            let data = match content.strip_prefix("-> ") {
                Some(to) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_link_name_literal(to).unwrap();
                    ""
                }
                None => content,
            };
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data.as_bytes()).unwrap();
        }
        std::fs::write(&source, builder.into_inner().unwrap()).unwrap();
        let done = extract(&source, &target);
        match expected {
            Ok(files) => {
                done.unwrap();
                for (path, content) in files {
                    let path = target.join(path);
                    assert!(path.symlink_metadata().unwrap().is_file(), "{}", path.display());
                    assert_eq!(std::fs::read_to_string(&path).unwrap(), *content);
                }
            }
            Err(words) => {
                let error = done.unwrap_err().to_string();
                assert!(error.contains(words), "{error}");
            }
        }
        assert!(!scratch.path().join("escaped").exists());
    }

    #[test]
    fn other_files_are_not_quoted() {
        let scratch = tempfile::tempdir().unwrap();
        let source = scratch.path().join("README.md");
        std::fs::write(&source, "# Secret words\n".repeat(100)).unwrap();
        let error = extract(&source, &scratch.path().join("out")).unwrap_err().to_string();
        assert!(error.contains("no tar archive") && !error.contains("Secret"), "{error}");
    }

    #[test]
    fn plain_files_with_plain_names() {
        check(
            &[("index.json", "{}"), ("./blobs/x", "y")],
            Ok(&[("index.json", "{}"), ("blobs/x", "y")]),
        );
        // A layer that two images share, as older versions of docker write it.
        check(
            &[("one/layer.tar", "-> ../two/layer.tar"), ("two/layer.tar", "l")],
            Ok(&[("one/layer.tar", "l"), ("two/layer.tar", "l")]),
        );
        check(&[("../escaped", "x")], Err("leaves the archive"));
        check(&[("/escaped", "x")], Err("leaves the archive"));
        check(&[("a", "-> /etc/passwd")], Err("leads out of the archive"));
        check(&[("a", "-> .."), ("a/escaped", "x")], Err("leads out of the archive"));
        check(&[("a", "-> b"), ("a/x", "x")], Err("link "));
    }
}
