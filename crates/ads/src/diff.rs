//! Steps between two sets, computed once per pair of sets and shared by every stream that makes the step.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use xds::resource::{Body, ContentHash, Resource, ResourceSet};

use crate::limits::Limits;
use crate::names::{Interner, NameSet, name_bytes};
use crate::recent::Recent;
use crate::stream::Protocol;
use crate::wire;

/// What changes from one set to the next: names, so that a step that is kept keeps no resources.
#[derive(Debug, Default)]
pub struct Step {
    /// Names of new or different resources, in order.
    pub changed: Vec<Arc<str>>,
    /// Names that are gone, in order.
    pub removed: Vec<Arc<str>>,
    /// Bytes of what changed.
    size: usize,
    /// What changed, encoded for each protocol by the first stream that sends all of it.
    encoded: [OnceLock<Arc<[Body]>>; 2],
}

impl Step {
    /// Compares two sets.
    pub fn between(from: &ResourceSet, to: &ResourceSet) -> Self {
        let mut step = Self::default();
        let (old, new) = from.apart(to);
        let (mut old, mut new) = (old.peekable(), new.peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return step,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.name.cmp(&after.name),
            };
            let before = if order == Ordering::Greater { None } else { old.next() };
            let after = if order == Ordering::Less { None } else { new.next() };
            match (before, after) {
                (Some(before), None) => step.removed.push(before.name.clone()),
                (Some(before), Some(after)) if before.hash == after.hash => {}
                (_, Some(after)) => {
                    step.size += after.body.len();
                    step.changed.push(after.name.clone());
                }
                (None, None) => {}
            }
        }
    }

    /// Names in which two sets differ.
    pub(crate) fn into_names(self) -> impl Iterator<Item = Arc<str>> {
        self.changed.into_iter().chain(self.removed)
    }

    /// The step for a client that may hold either of two sets (it rejected the second), and of `uncertain` names anything;
    /// of the first it surely has the contents if it `is_sure`, and only perhaps the names otherwise.
    pub fn from_doubt(
        good: &ResourceSet,
        is_sure: bool,
        uncertain: &BTreeSet<Arc<str>>,
        rejected: &ResourceSet,
        to: &ResourceSet,
    ) -> Self {
        let holds =
            |set: &ResourceSet, resource: &Resource| set.get(&resource.name).is_some_and(|r| r.hash == resource.hash);
        let has = |r: &Resource| is_sure && !uncertain.contains(&r.name) && holds(good, r) && holds(rejected, r);
        let changed = to.iter().filter(|r| !has(r)).map(|r| r.name.clone()).collect();
        let told = good.iter().chain(rejected.iter()).map(|r| &r.name);
        let mut removed: Vec<Arc<str>> = told.chain(uncertain).filter(|n| to.get(n).is_none()).cloned().collect();
        removed.sort();
        removed.dedup();
        Self {
            changed,
            removed,
            ..Self::default()
        }
    }

    /// Everything that changed, encoded; `resources` are those of the names.
    pub(crate) fn encoded(&self, protocol: Protocol, resources: &[Arc<Resource>], shared: &Shared) -> Arc<[Body]> {
        let encode = || wire::pieces(protocol, resources, shared).into();
        if self.size > SMALL {
            return encode();
        }
        self.encoded[protocol as usize].get_or_init(encode).clone()
    }

    /// Memory that it takes, or will: those of small steps, which many streams make at once, are kept encoded.
    fn bytes(&self) -> usize {
        let names = names_bytes(self.changed.iter().chain(&self.removed));
        let encoded = if self.size > SMALL { 0 } else { self.size };
        names + self.encoded.len() * (encoded + names_bytes(&self.changed))
    }
}

/// Everything of a set that one subscription covers, encoded.
#[derive(Debug)]
pub struct Whole {
    /// Number of resources.
    pub resources: usize,
    /// Names that are subscribed to and not in the set.
    pub missing: Vec<Arc<str>>,
    /// The resources, encoded.
    pub pieces: Arc<[Body]>,
}

impl Whole {
    fn bytes(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(|piece| ENTRY_BYTES + piece.len()).sum();
        pieces + names_bytes(&self.missing)
    }
}

/// Set and subscription (`None` for the wildcard) that a [`Whole`] is of.
type WholeKey = (Protocol, ContentHash, Option<ContentHash>);

/// Work that all streams share: steps, unions, encoded pieces, subscriptions. What is remembered is counted by the bytes
/// that it keeps in memory.
#[derive(Debug)]
pub struct Shared {
    /// Interned subscriptions.
    pub names: Interner,
    steps: Mutex<Recent<(ContentHash, ContentHash), Arc<Step>>>,
    /// Those that a stream holds.
    unions: Mutex<Recent<(ContentHash, ContentHash), Weak<ResourceSet>>>,
    wholes: Mutex<Recent<WholeKey, Arc<Whole>>>,
    pub(crate) pieces: Mutex<Recent<ContentHash, Bytes>>,
}

/// A step of this size is kept encoded, in bytes.
const SMALL: usize = 16 << 10;
/// Rough memory of one entry of a set or step besides what is in it, in bytes.
const ENTRY_BYTES: usize = 64;

fn names_bytes<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> usize {
    names.into_iter().map(|name| name_bytes(name)).sum()
}

impl Shared {
    /// Empty caches bounded by `limits.shared_bytes`.
    pub fn new(limits: &Limits) -> Self {
        let share = limits.shared_bytes / 16;
        Self {
            names: Interner::default(),
            steps: Mutex::new(Recent::new(share)),
            unions: Mutex::new(Recent::new(share)),
            wholes: Mutex::new(Recent::new(6 * share)),
            pieces: Mutex::new(Recent::new(8 * share)),
        }
    }

    /// [`Step::between`], remembered.
    pub fn step(&self, from: &ResourceSet, to: &ResourceSet) -> Arc<Step> {
        let key = (version(from), version(to));
        if let Some(step) = lock(&self.steps).get(&key) {
            return step;
        }
        let step = Arc::new(Step::between(from, to));
        lock(&self.steps).insert(key, step.clone(), ENTRY_BYTES + step.bytes());
        step
    }

    /// What of a set a subscription covers, encoded, remembered.
    pub fn whole(
        &self,
        protocol: Protocol,
        set: &ResourceSet,
        names: Option<&NameSet>,
        make: impl FnOnce() -> Whole,
    ) -> Arc<Whole> {
        let key = (protocol, version(set), names.map(NameSet::id));
        if let Some(whole) = lock(&self.wholes).get(&key) {
            return whole;
        }
        let whole = Arc::new(make());
        lock(&self.wholes).insert(key, whole.clone(), ENTRY_BYTES + whole.bytes());
        whole
    }

    /// `to`, and what only `from` has: the state in between when removals must wait.
    pub fn union(&self, from: &Arc<ResourceSet>, to: &Arc<ResourceSet>) -> Arc<ResourceSet> {
        let step = self.step(from, to);
        if step.removed.is_empty() {
            return to.clone();
        }
        // What a proxy brought along is known by name and hash only; it may have to be sent again, with its content.
        let is_whole = |resource: &Arc<Resource>| !resource.body.is_empty() || to.get(&resource.name).is_none();
        if step.changed.is_empty() && from.iter().all(is_whole) {
            return from.clone();
        }
        let key = (version(from), version(to));
        if let Some(union) = lock(&self.unions).get(&key).and_then(|union| union.upgrade()) {
            return union;
        }
        let union = Arc::new(ResourceSet::new(from.iter().chain(to.iter()).cloned()));
        lock(&self.unions).insert(key, Arc::downgrade(&union), ENTRY_BYTES);
        union
    }
}

/// Version of a set; the default set counts as the empty one.
pub fn version(set: &ResourceSet) -> ContentHash {
    set.hash().unwrap_or_else(|| ContentHash::of(&[]))
}

/// Whether two sets have the same content.
pub fn same(a: &Arc<ResourceSet>, b: &Arc<ResourceSet>) -> bool {
    Arc::ptr_eq(a, b) || version(a) == version(b)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic while the lock was held cannot leave these caches inconsistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
