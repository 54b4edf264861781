//! The ring of recent events.

use std::{collections::VecDeque, sync::Arc};

use crate::{Error, watch::Event};

/// Recent events in order of revision.
#[derive(Debug)]
pub(crate) struct History {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    /// All events with a greater revision are in the ring.
    complete_after: u64,
}

impl History {
    pub fn new(capacity: usize, revision: u64) -> Self {
        Self {
            events: VecDeque::new(),
            capacity,
            complete_after: revision,
        }
    }

    pub fn push(&mut self, event: Arc<Event>) {
        if self.events.len() == self.capacity
            && let Some(oldest) = self.events.pop_front()
        {
            self.complete_after = oldest.revision;
        }
        self.events.push_back(event);
    }

    /// Events later than `revision`, oldest first.
    pub fn after(&self, revision: u64) -> Result<impl DoubleEndedIterator<Item = &Arc<Event>>, Error> {
        if revision < self.complete_after {
            return Err(Error::Compacted {
                wanted: revision,
                oldest: self.complete_after,
            });
        }
        let start = self.events.partition_point(|event| event.revision <= revision);
        Ok(self.events.range(start..))
    }
}
