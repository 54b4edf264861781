//! Containers of a pod: what they are made of, and the processes that hold them.
//!
//! The node process may die at any time; containers must not notice. So each container belongs to a small `shim` process
//! of its own, which starts it through the OCI runtime, writes its log, and leaves its exit code in a file.

mod bundle;
pub(crate) mod cgroup;
mod log;
mod rootfs;
mod runc;
pub mod shim;
pub(crate) mod user;

pub(crate) use bundle::{Limits, Mount, Spec, User, default_capabilities};
pub(crate) use log::rotated;
pub(crate) use rootfs::Rootfs;
pub(crate) use runc::{Exec, Runtime, sweep_execs};
pub(crate) use shim::Exit;

use crate::error::{Error, Result};
use crate::image::sha256;
use nix::mount::{MntFlags, umount2};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where one run of one container keeps its things.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `<pod dir>/containers/<name>/<attempt>`
    pub(crate) dir: PathBuf,
    /// The runtime's name for it: the same for the same pod, container and attempt, so that a restarted node finds it.
    pub(crate) id: String,
    /// CRI log.
    pub(crate) log: PathBuf,
    /// The shim's socket.
    pub(crate) socket: PathBuf,
    /// Where the parts of volumes that this run mounts (`subPath`) are held. Not in the pod's folder, which is removed
    /// with everything in it: behind these lies the content of volumes.
    pub(crate) held: PathBuf,
}

impl Place {
    pub(crate) fn new(pod_dir: &Path, run_dir: &Path, uid: &str, container: &str, attempt: u32) -> Self {
        let id = sha256(format!("{uid}/{container}/{attempt}").as_bytes());
        Self {
            dir: pod_dir.join("containers").join(container).join(attempt.to_string()),
            log: log_path(pod_dir, container, attempt),
            // Socket paths are short by law (108 bytes), data folders are not.
            socket: run_dir.join("shim").join(&id[..24]),
            held: run_dir.join("held").join(&id[..24]),
            id,
        }
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    pub(crate) fn exit_file(&self) -> PathBuf {
        self.dir.join("exit.json")
    }

    pub(crate) fn termination_log(&self) -> PathBuf {
        self.dir.join("termination-log")
    }

    /// Takes away what is mounted for this run, and forgets what was written to its root. Nothing there is fine.
    pub(crate) fn unmount(&self) {
        Rootfs::new(&self.dir).release();
        for held in std::fs::read_dir(&self.held).into_iter().flatten().flatten() {
            let _ = umount2(&held.path(), MntFlags::MNT_DETACH);
            // Never with what is in it, should it still be mounted.
            let _ = std::fs::remove_file(held.path()).or_else(|_| std::fs::remove_dir(held.path()));
        }
        let _ = std::fs::remove_dir(&self.held);
    }
}

/// The log of one run.
pub(crate) fn log_path(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join("logs").join(container).join(format!("{attempt}.log"))
}

/// Writes a file in which there may be secrets (the environment of a container).
pub(crate) fn write_private(path: &Path, data: &[u8]) -> Result<()> {
    let file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(data))
        .map_err(Error::io("write", path))
}
