//! Steps between two sets, computed once per pair of sets and shared by every stream that makes the step.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use xds::resource::{Body, ContentHash, Resource, ResourceSet};

use crate::limits::Limits;
use crate::names::{Interner, NameSet};
use crate::recent::Recent;
use crate::stream::Protocol;
use crate::wire;

/// What changes from one set to the next.
#[derive(Debug, Default)]
pub struct Step {
    /// New or different resources, in name order.
    pub changed: Vec<Arc<Resource>>,
    /// Names that are gone, in order.
    pub removed: Vec<Arc<str>>,
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
                (_, Some(after)) => step.changed.push(after.clone()),
                (None, None) => {}
            }
        }
    }

    /// The step for a client that may hold either of two sets (it rejected the second).
    pub fn from_doubt(good: &ResourceSet, rejected: &ResourceSet, to: &ResourceSet) -> Self {
        let holds =
            |set: &ResourceSet, resource: &Resource| set.get(&resource.name).is_some_and(|r| r.hash == resource.hash);
        let changed = to
            .iter()
            .filter(|r| !(holds(good, r) && holds(rejected, r)))
            .cloned()
            .collect();
        let mut removed: Vec<Arc<str>> = good
            .iter()
            .chain(rejected.iter())
            .map(|r| &r.name)
            .filter(|n| to.get(n).is_none())
            .cloned()
            .collect();
        removed.sort();
        removed.dedup();
        Self {
            changed,
            removed,
            ..Self::default()
        }
    }

    /// Everything that changed, encoded.
    pub(crate) fn encoded(&self, protocol: Protocol, shared: &Shared) -> Arc<[Body]> {
        let encode = || wire::pieces(protocol, &self.changed, shared).into();
        if self.kept_bytes() == 0 {
            return encode();
        }
        self.encoded[protocol as usize].get_or_init(encode).clone()
    }

    /// Bytes that are kept encoded: those of small steps, which many streams make at once.
    fn kept_bytes(&self) -> usize {
        let bytes = self.changed.iter().map(|resource| resource.body.len()).sum();
        if bytes <= SMALL { bytes } else { 0 }
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

/// Set and subscription (`None` for the wildcard) that a [`Whole`] is of.
type WholeKey = (Protocol, ContentHash, Option<ContentHash>);

/// Work that all streams share: steps, unions, encoded pieces, subscriptions.
#[derive(Debug)]
pub struct Shared {
    /// Interned subscriptions.
    pub names: Interner,
    steps: Mutex<Recent<(ContentHash, ContentHash), Arc<Step>>>,
    unions: Mutex<Recent<(ContentHash, ContentHash), Arc<ResourceSet>>>,
    wholes: Mutex<Recent<WholeKey, Arc<Whole>>>,
    pub(crate) pieces: Mutex<Recent<ContentHash, Bytes>>,
}

/// A step of this size is kept encoded, in bytes.
const SMALL: usize = 16 << 10;
/// Rough memory of one entry of a set or step, in bytes.
const ENTRY_BYTES: usize = 64;

impl Shared {
    /// Empty caches bounded by `limits.shared_bytes`.
    pub fn new(limits: &Limits) -> Self {
        Self {
            names: Interner::default(),
            steps: Mutex::new(Recent::new(limits.shared_bytes / 8)),
            unions: Mutex::new(Recent::new(limits.shared_bytes / 8)),
            wholes: Mutex::new(Recent::new(limits.shared_bytes / 8)),
            pieces: Mutex::new(Recent::new(limits.shared_bytes / 8 * 5)),
        }
    }

    /// [`Step::between`], remembered.
    pub fn step(&self, from: &ResourceSet, to: &ResourceSet) -> Arc<Step> {
        let key = (version(from), version(to));
        if let Some(step) = lock(&self.steps).get(&key) {
            return step;
        }
        let step = Arc::new(Step::between(from, to));
        let weight = ENTRY_BYTES * (1 + step.changed.len() + step.removed.len()) + step.kept_bytes();
        lock(&self.steps).insert(key, step.clone(), weight);
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
        // The pieces themselves are counted where they are kept.
        let weight = ENTRY_BYTES * (1 + whole.missing.len() + whole.pieces.len());
        lock(&self.wholes).insert(key, whole.clone(), weight);
        whole
    }

    /// `to`, and what only `from` has: the state in between when removals must wait.
    pub fn union(&self, from: &Arc<ResourceSet>, to: &Arc<ResourceSet>) -> Arc<ResourceSet> {
        if self.step(from, to).removed.is_empty() {
            return to.clone();
        }
        let key = (version(from), version(to));
        if let Some(union) = lock(&self.unions).get(&key) {
            return union;
        }
        let union = Arc::new(ResourceSet::new(from.iter().chain(to.iter()).cloned()));
        lock(&self.unions).insert(key, union.clone(), ENTRY_BYTES * (1 + union.len()));
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
