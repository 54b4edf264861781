//! Network namespaces that stay without a process in them: bound to a file.

use crate::error::{Error, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::path::Path;

/// Runs `work` on a thread inside the namespace bound to `path`. The thread ends with the work, so that no other work
/// ever runs in the wrong namespace.
pub(crate) async fn enter<T, F>(path: &Path, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let (path, file) = (path.to_path_buf(), File::open(path).map_err(Error::io("open", path))?);
    on_thread(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).map_err(Error::errno("enter", &path))?;
        work()
    })
    .await
}

/// Makes a new namespace and binds it to `path`.
pub(crate) async fn create(path: &Path) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    }
    remove(path);
    let path = path.to_path_buf();
    on_thread(move || {
        File::create(&path).map_err(Error::io("create", &path))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(Error::errno("create a network namespace for", &path))?;
        mount(
            Some("/proc/thread-self/ns/net"),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(Error::errno("bind", &path))
    })
    .await
}

/// Unbinds a namespace; it goes with its last process. Nothing there is fine.
pub(crate) fn remove(path: &Path) {
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = std::fs::remove_file(path);
}

async fn on_thread<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let (tx, rx) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name("netns".into()).spawn(move || {
        let _ = tx.send(work());
    });
    spawned.map_err(|e| Error::Network(format!("cannot start a thread: {e}")))?;
    rx.await
        .map_err(|_| Error::Network("the thread in the network namespace died".into()))?
}
