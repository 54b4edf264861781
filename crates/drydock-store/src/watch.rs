//! Events and their delivery to watchers.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It was removed; the event's object is its last state under the removal's revision.
    Deleted,
}

/// One committed write.
#[derive(Debug)]
pub struct Event {
    /// Revision of the write.
    pub revision: u64,
    /// Key of the object.
    pub key: String,
    /// What happened.
    pub change: Change,
    /// The object after it.
    pub value: Arc<Value>,
    /// The object before it.
    pub previous: Option<Arc<Value>>,
    /// Revision of the object before it, 0 if there was none.
    pub previous_revision: u64,
}

/// Events waiting for a watcher at most; one that falls further behind is ended.
pub(crate) const QUEUE: usize = 16 * 1024;

/// A running watch: events of one key prefix in order of revision, none missing.
/// Ends (`None`) when the watcher is too slow or the store closes.
#[derive(Debug)]
pub struct Watch {
    pub(crate) backlog: std::vec::IntoIter<Arc<Event>>,
    pub(crate) live: mpsc::Receiver<Arc<Event>>,
    /// Store revision when the watch began: everything later comes through it.
    pub revision: u64,
}

impl Watch {
    /// The next event.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        match self.backlog.next() {
            Some(event) => Some(event),
            None => self.live.recv().await,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Watcher {
    pub prefix: String,
    pub sender: mpsc::Sender<Arc<Event>>,
}

impl Watcher {
    /// Delivers one event; `false` if this watcher is over.
    pub fn offer(&self, event: &Arc<Event>) -> bool {
        if event.key.starts_with(&self.prefix) {
            self.sender.try_send(event.clone()).is_ok()
        } else {
            !self.sender.is_closed()
        }
    }
}
