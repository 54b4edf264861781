//! What can go wrong in the store.

use std::sync::Arc;

use crate::store::Stored;

/// A failed store operation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The object is not as [`crate::Expect`] demanded; carries what is there now.
    #[error("the object at {key:?} changed meanwhile; read it again and retry")]
    Conflict {
        /// Key of the object.
        key: String,
        /// Current object, `None` if absent.
        current: Option<Stored>,
    },
    /// The wanted revision is older than the history we keep.
    #[error("revision {wanted} is older than the oldest one kept ({oldest}); list again")]
    Compacted {
        /// The revision asked for.
        wanted: u64,
        /// The oldest revision that can still be had.
        oldest: u64,
    },
    /// The database file cannot be opened, read or written.
    #[error("the store's file failed: {0}; check the disk and the data directory")]
    Disk(Arc<str>),
    /// The writer has stopped after an earlier disk failure or a shutdown.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    pub(crate) fn disk(error: impl std::fmt::Display) -> Self {
        Self::Disk(error.to_string().into())
    }
}
