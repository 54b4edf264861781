//! One layer: items of the recipe → a tar that is the same every time.

use super::libraries;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// Something in an image. Paths are inside the image, without the first slash.
#[derive(Debug, Clone)]
pub enum Item {
    /// A program with the libraries that it needs.
    Program { path: String, from: PathBuf },
    /// A plain file of this machine.
    File { path: String, from: PathBuf },
    /// A plain file with this text.
    Text { path: String, text: String },
    /// A symbolic link.
    Link { path: String, target: String },
    /// A folder with mode and owner (user and group of the same number).
    Folder { path: String, mode: u32, owner: u32 },
    /// A library that is loaded by name at run time; left out where the machine has none.
    Library(&'static str),
    /// The extensions that iptables loads, with their libraries.
    Extensions,
}

/// An entry of the tar.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File { from: PathBuf, mode: u32 },
    Text(String),
    Link(String),
    Folder { mode: u32, owner: u32 },
}

/// Writes the tar of these items.
pub fn write(items: &[Item], out: impl Write) -> Result<()> {
    let mut builder = tar::Builder::new(out);
    for (path, entry) in entries(items)? {
        let mut header = Header::new_ustar();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let append = match &entry {
            Entry::File { from, mode } => {
                let file = std::fs::File::open(from).with_context(|| format!("open {}", from.display()))?;
                header.set_size(
                    file.metadata()
                        .with_context(|| format!("read {}", from.display()))?
                        .len(),
                );
                header.set_mode(*mode);
                builder.append_data(&mut header, &path, std::io::BufReader::with_capacity(1 << 20, file))
            }
            Entry::Text(text) => {
                header.set_size(text.len() as u64);
                header.set_mode(0o644);
                builder.append_data(&mut header, &path, text.as_bytes())
            }
            Entry::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, &path, target)
            }
            Entry::Folder { mode, owner } => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                header.set_uid((*owner).into());
                header.set_gid((*owner).into());
                builder.append_data(&mut header, &path, std::io::empty())
            }
        };
        append.with_context(|| format!("add {path}"))?;
    }
    builder.finish().context("finish the layer")
}

/// All entries by path, with the folders above each.
fn entries(items: &[Item]) -> Result<BTreeMap<String, Entry>> {
    let mut out = BTreeMap::new();
    for item in items {
        match item {
            Item::Program { path, from } => {
                out.insert(
                    path.clone(),
                    Entry::File {
                        from: real(from)?,
                        mode: 0o755,
                    },
                );
                add_libraries(&mut out, from)?;
            }
            Item::File { path, from } => drop(out.insert(
                path.clone(),
                Entry::File {
                    from: real(from)?,
                    mode: 0o644,
                },
            )),
            Item::Text { path, text } => drop(out.insert(path.clone(), Entry::Text(text.clone()))),
            Item::Link { path, target } => drop(out.insert(path.clone(), Entry::Link(target.clone()))),
            Item::Folder { path, mode, owner } => drop(out.insert(
                path.clone(),
                Entry::Folder {
                    mode: *mode,
                    owner: *owner,
                },
            )),
            Item::Library(name) => {
                let path = libraries::beside_c_library()?.join(name);
                if path.exists() {
                    out.insert(
                        inside(&path),
                        Entry::File {
                            from: real(&path)?,
                            mode: 0o755,
                        },
                    );
                }
            }
            Item::Extensions => add_extensions(&mut out)?,
        }
    }
    let mut folders: Vec<String> = Vec::new();
    for path in out.keys() {
        folders.extend(path.match_indices('/').map(|(i, _)| path[..i].to_string()));
    }
    for folder in folders {
        out.entry(folder).or_insert(Entry::Folder { mode: 0o755, owner: 0 });
    }
    Ok(out)
}

fn inside(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_string()
}

fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("{} is missing", path.display()))
}

fn add_libraries(out: &mut BTreeMap<String, Entry>, program: &Path) -> Result<()> {
    for (path, from) in libraries::of(program)? {
        out.insert(
            path,
            Entry::File {
                from: real(&from)?,
                mode: 0o755,
            },
        );
    }
    Ok(())
}

fn add_extensions(out: &mut BTreeMap<String, Entry>) -> Result<()> {
    let found = [
        "/usr/lib/x86_64-linux-gnu/xtables",
        "/usr/lib/aarch64-linux-gnu/xtables",
        "/usr/lib/xtables",
        "/usr/lib64/xtables",
    ]
    .into_iter()
    .map(Path::new)
    .find(|p| p.is_dir());
    let folder = found.context("no extensions of iptables on this machine: install iptables")?;
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        match std::fs::read_link(&path) {
            Ok(target) => drop(out.insert(inside(&path), Entry::Link(target.to_string_lossy().into_owned()))),
            Err(_) => {
                out.insert(
                    inside(&path),
                    Entry::File {
                        from: path.clone(),
                        mode: 0o644,
                    },
                );
                add_libraries(out, &path)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tar_of(items: &[Item]) -> Vec<u8> {
        let mut out = Vec::new();
        write(items, &mut out).unwrap();
        out
    }

    #[test]
    fn the_same_items_give_the_same_bytes_in_any_order() {
        let text = |p: &str| Item::Text {
            path: p.into(),
            text: "x".into(),
        };
        let folder = Item::Folder {
            path: "a".into(),
            mode: 0o700,
            owner: 7,
        };
        let (one, two) = (
            tar_of(&[text("a/b/c"), folder.clone(), text("d")]),
            tar_of(&[text("d"), folder, text("a/b/c")]),
        );
        assert_eq!(one, two);
        let mut archive = tar::Archive::new(one.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                format!(
                    "{} {:o} {}",
                    e.path().unwrap().display(),
                    e.header().mode().unwrap(),
                    e.header().uid().unwrap()
                )
            })
            .collect();
        assert_eq!(names, ["a 700 7", "a/b 755 0", "a/b/c 644 0", "d 644 0"]);
    }
}
