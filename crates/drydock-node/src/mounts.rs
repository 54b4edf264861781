//! Mounts of this node below a folder, and how they go with it.

use crate::error::{Error, Result};
use nix::mount::{MntFlags, umount2};
use std::path::{Path, PathBuf};

/// A mount may hide others, which are seen only when it is gone.
const ROUNDS: usize = 16;

/// Unmounts what is mounted at or below `dir`, and then removes it. Where something stays mounted nothing is removed:
/// behind a mount lies what is not ours. Nothing there is fine.
///
/// # Errors
/// Something stays mounted, or a file cannot be removed.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    let Ok(real) = dir.canonicalize() else { return Ok(()) };
    for _ in 0..ROUNDS {
        let mounts = below(&real);
        if mounts.is_empty() {
            break;
        }
        for mount in mounts {
            let _ = umount2(&mount, MntFlags::MNT_DETACH);
        }
    }
    if let Some(mount) = below(&real).first() {
        return Err(Error::Pod(format!("{} cannot be unmounted", mount.display())));
    }
    match std::fs::remove_dir_all(&real) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", dir)(error)),
        _ => Ok(()),
    }
}

/// Mount points at or below `dir`, inner ones first.
fn below(dir: &Path) -> Vec<PathBuf> {
    points(
        &std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
        dir,
    )
}

fn points(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    // The fifth field is the mount point.
    let point = |line: &str| line.split(' ').nth(4).map(|text| PathBuf::from(plain(text)));
    let mut points: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(point)
        .filter(|p| p.starts_with(dir))
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.as_os_str().len()));
    points
}

/// What parts fields is written as octal numbers.
fn plain(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (octal, character)| {
            text.replace(octal, character)
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::mount::{MsFlags, mount};

    #[test]
    fn points_below_a_folder() {
        let text = "30 1 0:1 / / rw - ext4 a rw\n31 30 0:2 / /a/my\\040pods/x rw - tmpfs t rw\n\
                    32 31 0:3 / /a/my\\040pods/x/y rw - tmpfs t rw\n33 30 0:4 / /a/my\\040podsy rw - tmpfs t rw\n";
        assert_eq!(
            points(text, Path::new("/a/my pods")),
            ["/a/my pods/x/y", "/a/my pods/x"].map(PathBuf::from)
        );
    }

    #[test]
    fn what_is_behind_a_mount_stays() {
        if !nix::unistd::geteuid().is_root() {
            return println!("skipped: not root");
        }
        let scratch = tempfile::tempdir().unwrap();
        let (theirs, ours) = (scratch.path().join("theirs"), scratch.path().join("ours"));
        std::fs::create_dir_all(ours.join("a")).unwrap();
        std::fs::create_dir(&theirs).unwrap();
        std::fs::write(theirs.join("thesis"), "x").unwrap();
        // Twice at the same place.
        for _ in 0..2 {
            mount(
                Some(&theirs),
                &ours.join("a"),
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .unwrap();
        }
        remove(&ours).unwrap();
        assert!(!ours.exists() && theirs.join("thesis").exists());
        remove(&ours).unwrap();
    }
}
