//! Events and their delivery to watchers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
    /// Bytes of the object as JSON.
    pub size: usize,
}

#[cfg(test)]
impl Event {
    /// An object appears that has this size.
    pub(crate) fn of_size(revision: u64, size: usize) -> Arc<Self> {
        Arc::new(Self {
            revision,
            key: "k".into(),
            change: Change::Added,
            value: Arc::default(),
            previous: None,
            previous_revision: 0,
            size,
        })
    }
}

/// Events waiting for a watcher at most; one that falls further behind is ended.
pub(crate) const QUEUE: usize = 16 * 1024;
/// Bytes of events waiting for a watcher at most, beside the one that is too large for that alone.
pub(crate) const QUEUE_BYTES: usize = 64 << 20;

/// A running watch: events of one key prefix in order of revision, none missing.
/// Ends (`None`) when the watcher is too slow or the store closes.
#[derive(Debug)]
pub struct Watch {
    pub(crate) backlog: std::vec::IntoIter<Arc<Event>>,
    pub(crate) live: mpsc::Receiver<Arc<Event>>,
    pub(crate) waiting: Arc<AtomicUsize>,
    /// Store revision when the watch began: everything later comes through it.
    pub revision: u64,
}

impl Watch {
    /// The next event.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        match self.backlog.next() {
            Some(event) => Some(event),
            None => {
                let event = self.live.recv().await?;
                self.waiting.fetch_sub(event.size, Relaxed);
                Some(event)
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Watcher {
    pub prefix: String,
    pub sender: mpsc::Sender<Arc<Event>>,
    /// Bytes of events that wait.
    pub waiting: Arc<AtomicUsize>,
}

impl Watcher {
    /// Delivers one event; `false` if this watcher is over.
    pub fn offer(&self, event: &Arc<Event>) -> bool {
        if !event.key.starts_with(&self.prefix) {
            return !self.sender.is_closed();
        }
        let before = self.waiting.fetch_add(event.size, Relaxed);
        (before == 0 || before + event.size <= QUEUE_BYTES) && self.sender.try_send(event.clone()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_slow_watcher_holds_so_much_and_not_more() {
        let (sender, live) = mpsc::channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let watcher = Watcher {
            prefix: "k".into(),
            sender,
            waiting: waiting.clone(),
        };
        let mut watch = Watch {
            backlog: Vec::new().into_iter(),
            live,
            waiting,
            revision: 1,
        };
        let event = |size| Event::of_size(2, size);
        assert!(watcher.offer(&event(QUEUE_BYTES + 1)), "there is nothing before it");
        watch.next().await.unwrap();
        assert!(watcher.offer(&event(QUEUE_BYTES)) && watcher.offer(&event(0)));
        watch.next().await.unwrap();
        assert!(watcher.offer(&event(QUEUE_BYTES - 1)) && watcher.offer(&event(1)));
        assert!(!watcher.offer(&event(1)));
    }
}
