//! Following the objects of one resource, for what the server itself keeps in order.

use crate::Core;
use drydock_store::{Store, Watch};
use std::{collections::VecDeque, time::Duration};

/// Rest before the objects are listed anew after a watch ended.
const REST: Duration = Duration::from_millis(100);

/// Yields the store key of every object of a resource, and again of each that is written or removed.
/// A watch that ended because its reader was slow begins anew with all objects.
#[derive(Debug)]
pub struct Follower {
    store: Store,
    prefix: String,
    queue: VecDeque<String>,
    watch: Watch,
}

impl Follower {
    /// Follows a resource; `None` if there is no such resource.
    #[must_use]
    pub fn new(core: &Core, group: &str, plural: &str) -> Option<Self> {
        let prefix = core.registry.any_version(group, plural)?.prefix("");
        let (listing, watch) = core.store.list_and_watch(&prefix);
        let queue = listing.items.into_iter().map(|stored| stored.key).collect();
        Some(Follower {
            store: core.store.clone(),
            prefix,
            queue,
            watch,
        })
    }

    /// The next key to look at. May be dropped while it waits.
    pub async fn next(&mut self) -> String {
        loop {
            if let Some(key) = self.queue.pop_front() {
                return key;
            }
            if let Some(event) = self.watch.next().await {
                return event.key.clone();
            }
            tokio::time::sleep(REST).await;
            let (listing, watch) = self.store.list_and_watch(&self.prefix);
            self.queue.extend(listing.items.into_iter().map(|stored| stored.key));
            self.watch = watch;
        }
    }
}
