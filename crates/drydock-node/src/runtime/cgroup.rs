//! Control groups of pods: the runtime makes the folders above a container's own, and leaves them.

use std::path::{Path, PathBuf};

/// Removes the group (`/<cluster>/<pod>`) with everything empty below it, in every hierarchy. A group that still has a
/// process in it stays: the kernel sees to that. Answers whether it is gone.
pub(crate) fn remove(group: &str) -> bool {
    let below = group.trim_start_matches('/');
    if below.is_empty() {
        return true;
    }
    let mut gone = true;
    for group in hierarchies(Path::new("/sys/fs/cgroup"))
        .iter()
        .map(|root| root.join(below))
    {
        remove_empty(&group);
        gone &= !group.exists();
    }
    gone
}

/// Version 2 has one hierarchy, version 1 a folder per controller, and both may be mounted together.
fn hierarchies(mount: &Path) -> Vec<PathBuf> {
    let controllers = std::fs::read_dir(mount).into_iter().flatten().flatten();
    let folders = controllers
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path());
    std::iter::once(mount.to_path_buf()).chain(folders).collect()
}

fn remove_empty(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // Control files are not entries that would keep a group from being removed; children and processes are.
    let _ = std::fs::remove_dir(group);
}
