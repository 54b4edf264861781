//! Snapshots in, resource sets per proxy class out.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use mesh::{Input, Kind, Snapshot, Update};
use xds::resource::ResourceSet;

use crate::envoy_filter::ProxyPatches;
use crate::graph::{ClassId, Graph};
use crate::proxy::{Proxy, ProxyClass};
use crate::query::{Query, Value};
use crate::resource_type::ResourceType;

/// Answers "what is this class of proxies owed?", and after each update "whose answer differs now?".
///
/// ```
/// use translate::{Generator, ProxyClass, ResourceType};
/// let mut generator = Generator::new(mesh::Mesh::default().snapshot());
/// let node = xds::envoy::config::core::v3::Node {
///     id: "sidecar~10.0.0.1~sleep-0.test~test.svc.cluster.local".into(),
///     ..Default::default()
/// };
/// let proxy = translate::Proxy::of_node(&node)?;
/// let class = generator.open(proxy.class(generator.snapshot()));
/// assert!(generator.set(class, ResourceType::Cluster).get("BlackHoleCluster").is_some());
/// # Ok::<(), translate::NodeError>(())
/// ```
#[derive(Debug)]
pub struct Generator {
    snapshot: Arc<Snapshot>,
    patches: Arc<ProxyPatches>,
    pub(crate) graph: Graph,
    ids: BTreeMap<Arc<ProxyClass>, ClassId>,
    users: BTreeMap<ClassId, usize>,
    next: u32,
}

impl Generator {
    /// A generator for a mesh as it is now.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            patches: Arc::new(ProxyPatches::of(&snapshot)),
            snapshot,
            graph: Graph::default(),
            ids: BTreeMap::new(),
            users: BTreeMap::new(),
            next: 0,
        }
    }

    /// The mesh that answers are about.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The class that a proxy falls into, as the mesh is now.
    pub fn class_of(&self, proxy: &Proxy) -> ProxyClass {
        proxy.class_under(&self.snapshot, &self.patches)
    }

    /// Starts to answer for a class; proxies of an equal class share a number. Each call is paired with one to
    /// [`Self::close`].
    pub fn open(&mut self, class: ProxyClass) -> ClassId {
        let id = match self.ids.get(&class) {
            Some(id) => *id,
            None => {
                let (id, class) = (ClassId(self.next), Arc::new(class));
                self.next += 1;
                self.ids.insert(class.clone(), id);
                self.graph.classes.insert(id, class);
                id
            }
        };
        *self.users.entry(id).or_default() += 1;
        id
    }

    /// One more use of a class that is open, paired with a call to [`Self::close`].
    pub fn hold(&mut self, id: ClassId) {
        if let Some(users) = self.users.get_mut(&id) {
            *users += 1;
        }
    }

    /// Ends one use of a class; with the last one its answers are forgotten.
    pub fn close(&mut self, id: ClassId) {
        let Some(users) = self.users.get_mut(&id) else { return };
        *users -= 1;
        if *users == 0 {
            self.users.remove(&id);
            if let Some(class) = self.graph.classes.get(&id) {
                self.ids.remove(class);
            }
            self.graph.release(id);
        }
    }

    /// The class of that number.
    pub fn class(&self, id: ClassId) -> Option<&Arc<ProxyClass>> {
        self.graph.classes.get(&id)
    }

    /// What a class is owed of one type.
    pub fn set(&mut self, id: ClassId, resource_type: ResourceType) -> Arc<ResourceSet> {
        match self.graph.get(&self.snapshot, &Query::Class(id, resource_type)) {
            Value::Set(set) => set,
            _ => Arc::default(),
        }
    }

    /// What a class is owed, by type.
    pub fn sets(&mut self, id: ClassId) -> BTreeMap<ResourceType, Arc<ResourceSet>> {
        ResourceType::ALL.into_iter().map(|t| (t, self.set(id, t))).collect()
    }

    /// Moves on to a newer mesh; answers which classes are owed something else of which types.
    ///
    /// Only what was asked for before counts. The class of a proxy may differ too: ask [`Self::class_of`] again
    /// when [`crate::Reclassified`] says so.
    pub fn update(&mut self, update: &Update) -> Vec<(ClassId, ResourceType)> {
        self.snapshot = update.snapshot.clone();
        if update.changed.contains(&Input::Kind(Kind::EnvoyFilter)) {
            self.patches = Arc::new(ProxyPatches::of(&self.snapshot));
        }
        let mut changed: Vec<(ClassId, ResourceType)> = self
            .graph
            .update(&self.snapshot, &update.changed)
            .into_iter()
            .filter_map(|query| match query {
                Query::Class(id, resource_type) => Some((id, resource_type)),
                _ => None,
            })
            .collect();
        changed.sort();
        changed
    }

    /// Forgets all answers and moves on to a mesh of which nobody says what differs. Classes stay open.
    pub fn start_again(&mut self, snapshot: Arc<Snapshot>) {
        self.patches = Arc::new(ProxyPatches::of(&snapshot));
        self.snapshot = snapshot;
        self.graph.start_again();
    }

    /// What could not be brought up to the mesh, because its computation panicked: it is as it was, or absent.
    pub fn stuck(&self) -> Vec<String> {
        self.graph.stuck().map(|query| format!("{query:?}")).collect()
    }

    /// Everything that a class's resources of one type rest on, for tests of isolation and for `explain`.
    pub fn inputs(&self, id: ClassId, resource_type: ResourceType) -> HashSet<Input> {
        self.graph.inputs_of(&Query::Class(id, resource_type))
    }

    /// Number of computations so far, and of answers that are kept.
    pub fn counters(&self) -> (u64, usize) {
        (self.graph.computed.values().sum(), self.graph.len())
    }

    /// Number of computations so far, by what was asked.
    pub fn computed(&self) -> BTreeMap<&'static str, u64> {
        self.graph
            .computed
            .iter()
            .map(|(name, count)| (*name, *count))
            .collect()
    }
}
