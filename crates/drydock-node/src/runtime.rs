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

use crate::image::sha256;
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
}

impl Place {
    pub(crate) fn new(pod_dir: &Path, run_dir: &Path, uid: &str, container: &str, attempt: u32) -> Self {
        let id = sha256(format!("{uid}/{container}/{attempt}").as_bytes());
        Self {
            dir: pod_dir.join("containers").join(container).join(attempt.to_string()),
            log: log_path(pod_dir, container, attempt),
            // Socket paths are short by law (108 bytes), data folders are not.
            socket: run_dir.join("shim").join(&id[..24]),
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
}

/// The log of one run.
pub(crate) fn log_path(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join("logs").join(container).join(format!("{attempt}.log"))
}
