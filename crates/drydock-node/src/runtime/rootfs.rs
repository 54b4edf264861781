//! A container's root: the image's layers under a writable one, put together by overlayfs in a millisecond.

use crate::error::{Error, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::{Path, PathBuf};

/// One page is all the kernel reads of mount options.
const MAX_OPTIONS: usize = 4095;

/// The root of one container: mounted at `<dir>/bundle/rootfs`, written to `<dir>/upper`.
#[derive(Debug)]
pub(crate) struct Rootfs {
    dir: PathBuf,
}

impl Rootfs {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("bundle/rootfs")
    }

    /// Mounts `layers` (lowest first). Where the data folder's file system cannot hold an upper layer (a container in a
    /// container), what is written goes to memory.
    pub(crate) fn mount(&self, layers: &[PathBuf]) -> Result<()> {
        let target = self.path();
        std::fs::create_dir_all(&target).map_err(Error::io("create", &target))?;
        self.overlay(layers).or_else(|first| {
            let memory = self.dir.join("rw");
            std::fs::create_dir_all(&memory).map_err(Error::io("create", &memory))?;
            mount(Some("tmpfs"), &memory, Some("tmpfs"), MsFlags::empty(), None::<&str>)
                .map_err(Error::errno("mount", &memory))?;
            self.overlay(layers).map_err(|_| first)
        })
    }

    fn overlay(&self, layers: &[PathBuf]) -> Result<()> {
        let rw = self.dir.join("rw");
        let (upper, work, empty) = (rw.join("upper"), rw.join("work"), self.dir.join("empty"));
        for dir in [&upper, &work] {
            std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        }
        let mut lower: Vec<String> = layers.iter().rev().map(|l| option(l)).collect();
        if lower.is_empty() {
            std::fs::create_dir_all(&empty).map_err(Error::io("create", &empty))?;
            lower.push(option(&empty));
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            option(&upper),
            option(&work)
        );
        if options.len() > MAX_OPTIONS {
            return Err(Error::Pod(format!(
                "{} image layers do not fit into one overlay mount: use a shorter data folder",
                lower.len()
            )));
        }
        let target = self.path();
        mount(
            Some("overlay"),
            &target,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(Error::errno("mount overlay at", &target))
    }

    /// Unmounts and forgets what was written. Nothing there is fine.
    pub(crate) fn release(&self) {
        let _ = umount2(&self.path(), MntFlags::MNT_DETACH);
        let _ = umount2(&self.dir.join("rw"), MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir_all(self.dir.join("rw"));
    }
}

/// A path as overlayfs reads it in its options: colons part layers, commas part options.
fn option(path: &Path) -> String {
    path.display()
        .to_string()
        .replace('\\', "\\\\")
        .replace(':', "\\:")
        .replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_separators() {
        assert_eq!(option(Path::new("/a:b,c/d")), "/a\\:b\\,c/d");
    }
}
