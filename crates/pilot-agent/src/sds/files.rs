//! Files that are watched by reading them again: mounted Secrets are swapped by symbolic links, which some watchers miss.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

/// How often files are read again.
pub const POLL: Duration = Duration::from_secs(1);
/// No watched file is longer than this, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// Content of `path`; `None` while it cannot be read.
pub async fn read(path: &Path) -> Option<Vec<u8>> {
    let length = tokio::fs::metadata(path).await.ok()?.len();
    if length > MAX_FILE {
        tracing::warn!(path = %path.display(), length, "file is too long and is not read");
        return None;
    }
    tokio::fs::read(path).await.ok()
}

/// Follows `path` until nobody listens. A file that disappears keeps its last content: a swap is not atomic.
pub fn follow(path: PathBuf) -> watch::Receiver<Option<Vec<u8>>> {
    let (publish, follow) = watch::channel(None);
    tokio::spawn(async move {
        let mut every = tokio::time::interval(POLL);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = publish.closed() => return,
            }
            if let Some(content) = read(&path).await {
                publish.send_if_modified(|current: &mut Option<Vec<u8>>| {
                    let changed = current.as_ref() != Some(&content);
                    if changed {
                        *current = Some(content);
                    }
                    changed
                });
            }
        }
    });
    follow
}
