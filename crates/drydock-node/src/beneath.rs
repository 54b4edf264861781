//! Paths inside a folder that others change meanwhile: walked one name at a time, and no link is followed, so that nobody
//! can lead the node out of the folder.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

/// Opens the file or folder `path` inside `root`, for naming it as [`in_proc`]. With `make`, folders that are missing are
/// made with this mode.
///
/// # Errors
/// A part of `path` is a link, leads upwards, or is not there.
pub(crate) fn open(root: &Path, path: &Path, make: Option<u32>) -> io::Result<OwnedFd> {
    let mut at = open_path(
        root,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            _ => return Err(io::Error::other("the path leads out of its folder")),
        };
        let made = match make.map(|_| mkdirat(&at, name, Mode::S_IRWXU)) {
            None | Some(Err(Errno::EEXIST)) => None,
            Some(done) => done.map(|()| make)?,
        };
        let next = openat(
            &at,
            name,
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        if SFlag::from_bits_truncate(fstat(&next)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK {
            return Err(io::Error::other("there is a link on the path"));
        }
        if let Some(mode) = made {
            // Whatever umask says. On the folder itself: under its name there may be something else by now.
            let folder = openat(
                &next,
                ".",
                OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            fchmod(&folder, Mode::from_bits_truncate(mode))?;
        }
        at = next;
    }
    Ok(at)
}

/// A path that means exactly what was opened, whatever happens to its name.
pub(crate) fn in_proc(file: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Whether a folder was opened.
///
/// # Errors
/// The kernel does not say.
pub(crate) fn is_folder(file: &OwnedFd) -> io::Result<bool> {
    Ok(SFlag::from_bits_truncate(fstat(file)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn no_link_leads_out() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, outside) = (scratch.path().join("root"), scratch.path().join("outside"));
        for dir in [&root, &outside] {
            std::fs::create_dir(dir).unwrap();
        }
        symlink(&outside, root.join("link")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        for bad in ["link", "link/new", "../outside", "/etc", "file/x"] {
            assert!(open(&root, Path::new(bad), Some(0o755)).is_err(), "{bad}");
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!is_folder(&open(&root, Path::new("file"), None).unwrap()).unwrap());
        assert!(open(&root, Path::new("a/b"), None).is_err());
        assert!(is_folder(&open(&root, Path::new("a/b"), Some(0o2777)).unwrap()).unwrap());
        let mode = std::fs::metadata(root.join("a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o2777);
        // What is there already keeps its mode.
        open(&root, Path::new("a/b"), Some(0o700)).unwrap();
        assert_eq!(
            std::fs::metadata(root.join("a")).unwrap().permissions().mode() & 0o7777,
            0o2777
        );
    }
}
