//! A number of bytes that all streams share.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Bytes that messages of all streams may take together.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: Arc<Semaphore>,
    all: usize,
}

/// Waiting for room. Who asked first is served first.
pub(crate) type Taking = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

impl Room {
    /// So many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let all = bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            bytes: Arc::new(Semaphore::new(all)),
            all,
        }
    }

    /// All of it.
    pub(crate) fn all(&self) -> usize {
        self.all
    }

    /// Waits for room. One that is larger than all of it waits until it is alone.
    pub(crate) fn take(&self, bytes: usize) -> Taking {
        let bytes = u32::try_from(bytes.min(self.all)).unwrap_or(u32::MAX);
        Box::pin(self.bytes.clone().acquire_many_owned(bytes))
    }
}
