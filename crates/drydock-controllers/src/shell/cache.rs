//! A local copy of all objects of one kind, kept by a watch and by our own writes.
//!
//! A controller that creates a pod and looks again must see it, or it creates a second one. So every write puts the
//! server's answer into the cache at once ([`Cache::wrote`]); the watch brings the same object a moment later. An
//! answer that the watch has already gone past (the object was deleted in between) is not put back.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::Key;

/// What happened to one object: `old` and `new` are both there for an update.
#[derive(Debug)]
pub struct Change<K> {
    /// The object before, if it was known.
    pub old: Option<Arc<K>>,
    /// The object now, if it still exists.
    pub new: Option<Arc<K>>,
}

type Subscriber<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// See the module's text.
pub struct Cache<K> {
    state: RwLock<State<K>>,
    subscribers: RwLock<Vec<Subscriber<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> std::fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("synced", &*self.synced.borrow())
            .finish_non_exhaustive()
    }
}

struct State<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// Objects of a listing under way; they replace `objects` when it is complete.
    listing: BTreeMap<Key, Arc<K>>,
    /// Highest resource version that the watch has delivered.
    seen: u64,
}

impl<K: Resource> Default for Cache<K> {
    fn default() -> Self {
        Cache {
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                listing: BTreeMap::new(),
                seen: 0,
            }),
            subscribers: RwLock::new(Vec::new()),
            synced: watch::Sender::new(false),
        }
    }
}

/// Resource versions are opaque by the letter and ordered numbers in practice (and by promise since Kubernetes 1.35).
fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

impl<K: Resource> Cache<K> {
    // A poisoned lock means a panic elsewhere in this process; the map itself is never left half written.
    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The object of that key.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects, in order of their keys.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    /// The objects of one namespace, in order of their names.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read()
            .objects
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Calls `f` on every later change, in the order in which they happen. Must be quick: it runs inside the watch.
    pub fn subscribe(&self, f: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.subscribers
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(Box::new(f));
    }

    /// Returns when the first listing is complete.
    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = synced.wait_for(|done| *done).await;
    }

    /// Takes in one event of the watch.
    pub fn observe(&self, event: Event<K>) {
        match event {
            Event::Init => self.write().listing.clear(),
            Event::InitApply(object) => {
                let mut state = self.write();
                state.seen = state.seen.max(version(object.meta()));
                state.listing.insert(Key::of(object.meta()), Arc::new(object));
            }
            Event::InitDone => {
                let changes = self.replace_all();
                changes.iter().for_each(|change| self.publish(change));
                self.synced.send_replace(true);
            }
            Event::Apply(object) => self.put(object, true),
            Event::Delete(object) => {
                let old = {
                    let mut state = self.write();
                    state.seen = state.seen.max(version(object.meta()));
                    state.objects.remove(&Key::of(object.meta()))
                };
                // A watch that starts late may report the end of something we never saw.
                let old = old.unwrap_or_else(|| Arc::new(object));
                self.publish(&Change {
                    old: Some(old),
                    new: None,
                });
            }
        }
    }

    /// Takes in the server's answer to a write of our own.
    pub fn wrote(&self, object: K) {
        self.put(object, false);
    }

    /// The server said that this object does not exist any more.
    pub fn removed(&self, meta: &ObjectMeta) {
        let key = Key::of(meta);
        let old = {
            let mut state = self.write();
            match state.objects.get(&key) {
                Some(known) if known.meta().uid == meta.uid => state.objects.remove(&key),
                _ => None,
            }
        };
        if let Some(old) = old {
            self.publish(&Change {
                old: Some(old),
                new: None,
            });
        }
    }

    fn put(&self, object: K, from_watch: bool) {
        let key = Key::of(object.meta());
        let new_version = version(object.meta());
        let change = {
            let mut state = self.write();
            let seen = state.seen;
            if from_watch {
                state.seen = seen.max(new_version);
            }
            let old = state.objects.get(&key).cloned();
            let stale = match &old {
                Some(known) => new_version != 0 && new_version <= version(known.meta()),
                None => !from_watch && new_version <= seen,
            };
            if stale {
                return;
            }
            let new = Arc::new(object);
            state.objects.insert(key, new.clone());
            Change { old, new: Some(new) }
        };
        self.publish(&change);
    }

    fn replace_all(&self) -> Vec<Change<K>> {
        let mut state = self.write();
        let listing = std::mem::take(&mut state.listing);
        let mut before = std::mem::replace(&mut state.objects, listing);
        let mut changes = Vec::new();
        for (key, new) in &state.objects {
            let old = before.remove(key);
            if old
                .as_ref()
                .is_none_or(|old| old.meta().resource_version != new.meta().resource_version)
            {
                changes.push(Change {
                    old,
                    new: Some(new.clone()),
                });
            }
        }
        changes.extend(before.into_values().map(|old| Change {
            old: Some(old),
            new: None,
        }));
        changes
    }

    fn publish(&self, change: &Change<K>) {
        for subscriber in self
            .subscribers
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .iter()
        {
            subscriber(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use proptest::prelude::*;

    fn object(name: &str, version: u64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                resource_version: Some(version.to_string()),
                uid: Some(format!("uid-{name}")),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn versions(cache: &Cache<ConfigMap>) -> Vec<(String, u64)> {
        cache
            .all()
            .iter()
            .map(|o| (o.metadata.name.clone().unwrap_or_default(), version(&o.metadata)))
            .collect()
    }

    #[test]
    fn own_write_is_seen_before_the_watch_brings_it() {
        let cache = Cache::default();
        cache.wrote(object("a", 5));
        assert_eq!(versions(&cache), [("a".to_owned(), 5)]);
        cache.observe(Event::Apply(object("a", 5)));
        cache.observe(Event::Apply(object("a", 7)));
        assert_eq!(versions(&cache), [("a".to_owned(), 7)]);
    }

    #[test]
    fn answer_that_comes_after_the_deletion_is_not_put_back() {
        let cache = Cache::default();
        cache.observe(Event::Apply(object("a", 5)));
        cache.observe(Event::Delete(object("a", 6)));
        cache.wrote(object("a", 5));
        assert!(versions(&cache).is_empty());
    }

    #[test]
    fn listing_replaces_and_reports_only_differences() {
        let cache = Cache::default();
        cache.observe(Event::Apply(object("gone", 1)));
        cache.observe(Event::Apply(object("same", 2)));
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = seen.clone();
        cache.subscribe(move |change| {
            let name = |o: &Option<Arc<ConfigMap>>| o.as_ref().and_then(|o| o.metadata.name.clone());
            log.lock().unwrap().push((name(&change.old), name(&change.new)));
        });
        cache.observe(Event::Init);
        cache.observe(Event::InitApply(object("new", 3)));
        cache.observe(Event::InitApply(object("same", 2)));
        assert_eq!(
            versions(&cache).len(),
            2,
            "the old content stays until the listing is complete"
        );
        cache.observe(Event::InitDone);
        assert_eq!(versions(&cache), [("new".to_owned(), 3), ("same".to_owned(), 2)]);
        assert_eq!(
            *seen.lock().unwrap(),
            [(None, Some("new".to_owned())), (Some("gone".to_owned()), None)]
        );
    }

    proptest! {
        /// However our own answers interleave with the watch, the cache ends as the watch says.
        #[test]
        fn converges_to_the_watch(answers in prop::collection::vec((0u64..12, 0usize..12), 0..12)) {
            // The server's history of one object: created, updated, deleted, created again.
            let history = [(1, true), (2, true), (3, false), (4, true), (5, true), (6, false), (7, true)];
            let cache = Cache::default();
            for (step, (at, alive)) in history.iter().enumerate() {
                // An answer can only tell of what has happened on the server.
                for (v, when) in &answers {
                    if *when == step && history.iter().any(|(hv, alive)| hv == v && *alive && v <= at) {
                        cache.wrote(object("a", *v));
                    }
                }
                cache.observe(if *alive { Event::Apply(object("a", *at)) } else { Event::Delete(object("a", *at)) });
            }
            prop_assert_eq!(versions(&cache), vec![("a".to_owned(), 7)]);
        }
    }
}
