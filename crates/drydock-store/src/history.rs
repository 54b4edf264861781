//! The ring of recent events.

use std::{collections::VecDeque, sync::Arc};

use crate::{Error, watch::Event};

/// Recent events in order of revision.
#[derive(Debug)]
pub(crate) struct History {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    /// Most bytes of events that are kept.
    room: usize,
    /// Bytes of those that are.
    size: usize,
    /// All events with a greater revision are in the ring.
    complete_after: u64,
}

impl History {
    pub fn new(capacity: usize, room: usize, revision: u64) -> Self {
        Self {
            events: VecDeque::new(),
            capacity,
            room,
            size: 0,
            complete_after: revision,
        }
    }

    pub fn push(&mut self, event: Arc<Event>) {
        self.size += event.size;
        self.events.push_back(event);
        while self.events.len() > self.capacity || self.size > self.room {
            let Some(oldest) = self.events.pop_front() else { return };
            self.size -= oldest.size;
            self.complete_after = oldest.revision;
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_kept_has_a_number_and_a_size() {
        let mut history = History::new(3, 100, 1);
        let mut kept = |revision, size| {
            history.push(Event::of_size(revision, size));
            history.events.iter().map(|event| event.revision).collect::<Vec<_>>()
        };
        assert_eq!(kept(2, 10), [2]);
        assert_eq!(kept(3, 10), [2, 3]);
        assert_eq!(kept(4, 10), [2, 3, 4]);
        assert_eq!(kept(5, 10), [3, 4, 5], "three");
        assert_eq!(kept(6, 85), [5, 6], "a hundred bytes");
        assert!(history.after(3).is_err());
        assert_eq!(history.after(4).unwrap().count(), 2);
    }
}
