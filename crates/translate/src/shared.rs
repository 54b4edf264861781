//! One generator for several threads: what a class is owed is computed while others go on with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mesh::{Snapshot, Update};
use xds::resource::ResourceSet;

use crate::generator::Generator;
use crate::graph::{ClassId, find_among, lock};
use crate::proxy::Proxy;
use crate::query::{Query, Value};
use crate::resource_type::ResourceType;

/// A [`Generator`] that is asked by one thread while another tells it of changes. Neither waits for more than one step
/// of the other: a change goes first, and what was computed before it and does not hold any more is computed again.
#[derive(Debug)]
pub struct SharedGenerator(Mutex<Generator>);

impl SharedGenerator {
    /// A generator for a mesh as it is now.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(Mutex::new(Generator::new(snapshot)))
    }

    /// The class that a proxy falls into now. Paired with [`Self::close`].
    pub fn open(&self, proxy: &Proxy) -> ClassId {
        let mut generator = lock(&self.0);
        let class = generator.class_of(proxy);
        generator.open(class)
    }

    /// One more use of a class that is open, paired with a call to [`Self::close`].
    pub fn hold(&self, id: ClassId) {
        lock(&self.0).hold(id);
    }

    /// Ends one use of a class; with the last one its answers are forgotten.
    pub fn close(&self, id: ClassId) {
        lock(&self.0).close(id);
    }

    /// Moves on to a newer mesh; what classes are owed now that differs, of those that were asked for before.
    pub fn update(&self, update: &Update) -> Vec<(ClassId, ResourceType, Arc<ResourceSet>)> {
        let mut generator = lock(&self.0);
        let changed = generator.update(update);
        let with_set = |(id, kind)| (id, kind, generator.set(id, kind));
        changed.into_iter().map(with_set).collect()
    }

    /// Forgets all answers and moves on to a mesh of which nobody says what differs.
    pub fn start_again(&self, snapshot: Arc<Snapshot>) {
        lock(&self.0).start_again(snapshot);
    }

    /// What could not be brought up to the mesh: see [`Generator::stuck`].
    pub fn stuck(&self) -> Vec<String> {
        lock(&self.0).stuck()
    }

    /// What a class is owed, by type: all of it of one and the same mesh.
    pub fn sets(&self, id: ClassId) -> BTreeMap<ResourceType, Arc<ResourceSet>> {
        loop {
            let before = self.snapshot();
            let set = |kind| match find_among(&self.0, &Query::Class(id, kind)).1 {
                Value::Set(set) => (kind, set),
                _ => (kind, Arc::default()),
            };
            let sets = ResourceType::ALL.into_iter().map(set).collect();
            if Arc::ptr_eq(&before, &self.snapshot()) {
                return sets;
            }
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        lock(&self.0).snapshot().clone()
    }
}
