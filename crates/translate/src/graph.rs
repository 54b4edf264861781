//! Memoised queries that record what they read, so that a change costs what it touches and not what exists.
//!
//! Every query has a level, and reads only inputs and queries of lower levels. An update therefore walks upwards once:
//! what read a changed input is computed again; if its value is what it was, nothing above it is looked at.
//!
//! A query is looked up by its content once per read; edges are numbers.

mod reads;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet as FastSet, HashTable};
use mesh::{Input, Service, Snapshot};

use crate::generator::Generator;
use crate::proxy::ProxyClass;
use crate::query::{self, Query, Value};
use crate::seen::{Seen, Views};

/// Number of a proxy class in a generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub(crate) u32);

/// Place of an answer in the graph.
pub(crate) type NodeId = u32;

#[derive(Debug)]
struct Node {
    query: Query,
    /// Of the query.
    hash: u64,
    value: Value,
    /// What it read, without repetition, in order.
    inputs: Vec<Input>,
    reads: Vec<NodeId>,
    /// The one of them that is its answer, whatever that says.
    forwards: Option<NodeId>,
    used_by: Readers,
}

/// Why an answer is looked at again.
#[derive(Debug)]
enum Cause {
    /// What it read of the mesh may differ.
    Input,
    /// These answers differ, which it read; with what each was before.
    Answers(Vec<(NodeId, Value)>),
}

/// Answers to look at again, by level.
type Dirty = BTreeMap<u8, BTreeMap<NodeId, Cause>>;

/// Who read an input or an answer; most have one reader.
#[derive(Debug, Default)]
enum Readers {
    #[default]
    Nobody,
    One(NodeId),
    Several(FastSet<NodeId>),
}

impl Readers {
    fn add(&mut self, id: NodeId) {
        match self {
            Self::Nobody => *self = Self::One(id),
            Self::One(one) if *one == id => {}
            Self::One(one) => *self = Self::Several([*one, id].into_iter().collect()),
            Self::Several(ids) => drop(ids.insert(id)),
        }
    }

    fn remove(&mut self, id: NodeId) {
        match self {
            Self::Nobody => {}
            Self::One(one) if *one != id => {}
            Self::One(_) => *self = Self::Nobody,
            Self::Several(ids) => {
                ids.remove(&id);
                if ids.is_empty() {
                    *self = Self::Nobody;
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    fn iter(&self) -> impl Iterator<Item = NodeId> {
        let (one, several) = match self {
            Self::Nobody => (None, None),
            Self::One(one) => (Some(*one), None),
            Self::Several(ids) => (None, Some(ids.iter().copied())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }
}

/// Answers that are known, and who read what.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// With the hash of the query, by it.
    ids: HashTable<(u64, NodeId)>,
    hashes: DefaultHashBuilder,
    nodes: Vec<Option<Node>>,
    free: Vec<NodeId>,
    readers: HashMap<Input, Readers>,
    pub(crate) classes: BTreeMap<ClassId, Arc<ProxyClass>>,
    /// Number of computations so far, by the name of the query.
    pub(crate) computed: HashMap<&'static str, u64>,
    /// Nodes that lost a reader, and perhaps the last one.
    orphans: Vec<NodeId>,
    views: Views,
    /// How often answers were replaced or forgotten: what was read before may not hold any more.
    age: u64,
    /// Answers whose computation panicked: each stays what it was, and is tried again with every update.
    stuck: BTreeSet<NodeId>,
}

impl Graph {
    /// The answer to a query, computed if it is not known.
    pub(crate) fn get(&mut self, snapshot: &Snapshot, query: &Query) -> Value {
        self.find(snapshot, query).1
    }

    fn find(&mut self, snapshot: &Snapshot, query: &Query) -> (NodeId, Value) {
        let hash = self.hash(query);
        if let Some(known) = self.known(query, hash) {
            return known;
        }
        let computed = compute(Access::Alone(self), snapshot, query);
        self.keep_or_panic(query, hash, computed)
    }

    /// Keeps an answer; instead of one that cannot be given, that there is nothing, where that harms only what it is
    /// about.
    fn keep_or_panic(&mut self, query: &Query, hash: u64, computed: Computed) -> (NodeId, Value) {
        match (computed.value, query.nothing()) {
            (Ok(value), _) => {
                let kept = self.keep(query, hash, value, computed.inputs, computed.reads);
                if let Some(node) = self.node_mut(kept.0) {
                    node.forwards = computed.forwards;
                }
                kept
            }
            (Err(_), Some(nothing)) => {
                let kept = self.keep(query, hash, nothing, computed.inputs, computed.reads);
                self.stuck.insert(kept.0);
                kept
            }
            (Err(panic), None) => {
                self.orphans.extend(computed.reads);
                resume_unwind(panic)
            }
        }
    }

    fn hash(&self, query: &Query) -> u64 {
        self.hashes.hash_one(query)
    }

    fn known(&self, query: &Query, hash: u64) -> Option<(NodeId, Value)> {
        let id = self.id_of(query, hash)?;
        Some((id, self.node(id)?.value.clone()))
    }

    fn id_of(&self, query: &Query, hash: u64) -> Option<NodeId> {
        let is_it = |(of, id): &(u64, NodeId)| *of == hash && self.node(*id).is_some_and(|node| node.query == *query);
        self.ids.find(hash, is_it).map(|(_, id)| *id)
    }

    fn keep(
        &mut self,
        query: &Query,
        hash: u64,
        value: Value,
        inputs: Vec<Input>,
        reads: Vec<NodeId>,
    ) -> (NodeId, Value) {
        *self.computed.entry(query.name()).or_default() += 1;
        let id = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            NodeId::try_from(self.nodes.len() - 1).unwrap_or(NodeId::MAX)
        });
        self.nodes[id as usize] = Some(Node {
            query: query.clone(),
            hash,
            value: value.clone(),
            inputs: Vec::new(),
            reads: Vec::new(),
            forwards: None,
            used_by: Readers::default(),
        });
        self.ids.insert_unique(hash, (hash, id), |(hash, _)| *hash);
        self.link(id, inputs, reads);
        (id, value)
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id as usize).and_then(Option::as_ref)
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id as usize).and_then(Option::as_mut)
    }

    /// Replaces what a node read; most computations read what they read before.
    fn link(&mut self, id: NodeId, inputs: Vec<Input>, reads: Vec<NodeId>) {
        let Some(node) = self.node_mut(id).filter(|n| n.inputs != inputs || n.reads != reads) else {
            return;
        };
        let (old_inputs, old_reads) = (std::mem::take(&mut node.inputs), std::mem::take(&mut node.reads));
        for input in old_inputs.iter().filter(|i| inputs.binary_search(i).is_err()) {
            if let Some(readers) = self.readers.get_mut(input) {
                readers.remove(id);
                if readers.is_empty() {
                    self.readers.remove(input);
                }
            }
        }
        for input in inputs.iter().filter(|i| old_inputs.binary_search(i).is_err()) {
            match self.readers.get_mut(input) {
                Some(readers) => readers.add(id),
                None => drop(self.readers.insert(input.clone(), Readers::One(id))),
            }
        }
        for read in old_reads.iter().filter(|r| reads.binary_search(r).is_err()) {
            if let Some(node) = self.node_mut(*read) {
                node.used_by.remove(id);
                self.orphans.push(*read);
            }
        }
        for read in reads.iter().filter(|r| old_reads.binary_search(r).is_err()) {
            if let Some(node) = self.node_mut(*read) {
                node.used_by.add(id);
            }
        }
        if let Some(node) = self.node_mut(id) {
            (node.inputs, node.reads) = (inputs, reads);
        }
    }

    /// Computes anew what read a changed input; answers whose value differs now.
    pub(crate) fn update<'a>(
        &mut self,
        snapshot: &Snapshot,
        changed: impl IntoIterator<Item = &'a Input>,
    ) -> Vec<Query> {
        self.age += 1;
        let mut dirty = Dirty::new();
        let readers = changed.into_iter().filter_map(|input| self.readers.get(input));
        for id in readers.flat_map(Readers::iter).chain(self.stuck.iter().copied()) {
            if let Some(node) = self.node(id) {
                dirty.entry(node.query.level()).or_default().insert(id, Cause::Input);
            }
        }
        let mut different = Vec::new();
        while let Some((_, ids)) = dirty.pop_first() {
            for (id, cause) in ids {
                let Some(value) = self.follow(&cause, id).or_else(|| self.compute_again(snapshot, id)) else {
                    continue;
                };
                let Some(node) = self.node_mut(id).filter(|node| node.value != value) else {
                    continue;
                };
                let before = std::mem::replace(&mut node.value, value);
                different.push(node.query.clone());
                self.pass_on(id, &before, &mut dirty);
            }
        }
        self.collect();
        different
    }

    /// The new answer, where it follows from answers that differ without a computation.
    fn follow(&self, cause: &Cause, id: NodeId) -> Option<Value> {
        let Cause::Answers(changed) = cause else { return None };
        let node = self.node(id)?;
        if let ([(read, _)], Some(forwards)) = (&changed[..], node.forwards)
            && *read == forwards
        {
            return Some(self.node(forwards)?.value.clone());
        }
        let now = |read: &NodeId| Some(&self.node(*read)?.value);
        let steps: Option<Vec<(&Value, &Value)>> = changed
            .iter()
            .map(|(read, before)| Some((before, now(read)?)))
            .collect();
        query::patch(&node.query, &node.value, &steps?)
    }

    /// The answer as it is computed now; `None` if that is not possible, and it stays what it was.
    fn compute_again(&mut self, snapshot: &Snapshot, id: NodeId) -> Option<Value> {
        let query = self.node(id)?.query.clone();
        *self.computed.entry(query.name()).or_default() += 1;
        let computed = compute(Access::Alone(self), snapshot, &query);
        let Ok(value) = computed.value else {
            self.stuck.insert(id);
            self.orphans.extend(computed.reads);
            return None;
        };
        self.stuck.remove(&id);
        self.link(id, computed.inputs, computed.reads);
        self.node_mut(id)?.forwards = computed.forwards;
        Some(value)
    }

    /// Whoever read an answer that differs has to be looked at.
    fn pass_on(&self, id: NodeId, before: &Value, dirty: &mut Dirty) {
        let users = self.node(id).into_iter().flat_map(|node| node.used_by.iter());
        for user in users {
            let Some(node) = self.node(user) else { continue };
            let causes = dirty.entry(node.query.level()).or_default();
            let cause = causes.entry(user).or_insert_with(|| Cause::Answers(Vec::new()));
            if let Cause::Answers(changed) = cause {
                changed.push((id, before.clone()));
            }
        }
    }

    /// Forgets all answers.
    pub(crate) fn start_again(&mut self) {
        *self = Self {
            classes: std::mem::take(&mut self.classes),
            computed: std::mem::take(&mut self.computed),
            // What is being computed meanwhile does not hold, but the hashes of questions do.
            age: self.age + 1,
            hashes: self.hashes.clone(),
            ..Self::default()
        };
    }

    /// Forgets a class's answers, and what nobody reads any more.
    pub(crate) fn release(&mut self, class: ClassId) {
        for resource_type in crate::ResourceType::ALL {
            let query = Query::Class(class, resource_type);
            if let Some(id) = self.id_of(&query, self.hash(&query)) {
                self.forget(id);
            }
        }
        self.classes.remove(&class);
        self.collect();
    }

    fn forget(&mut self, id: NodeId) {
        self.link(id, Vec::new(), Vec::new());
        if let Some(node) = self.nodes.get_mut(id as usize).and_then(Option::take) {
            self.age += 1;
            self.stuck.remove(&id);
            if let Ok(place) = self.ids.find_entry(node.hash, |(_, other)| *other == id) {
                place.remove();
            }
            self.free.push(id);
        }
    }

    /// Forgets what has lost its readers and found no new one.
    fn collect(&mut self) {
        while let Some(id) = self.orphans.pop() {
            let unused = self
                .node(id)
                .is_some_and(|node| node.used_by.is_empty() && !matches!(node.query, Query::Class(..)));
            if unused {
                self.forget(id);
            }
        }
    }

    /// Number of answers that are kept.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Questions whose answers could not be brought up to the mesh.
    pub(crate) fn stuck(&self) -> impl Iterator<Item = &Query> {
        self.stuck
            .iter()
            .filter_map(|id| self.node(*id))
            .map(|node| &node.query)
    }

    /// Inputs that an answer rests on, directly or through other answers.
    pub(crate) fn inputs_of(&self, query: &Query) -> HashSet<Input> {
        let mut inputs = HashSet::new();
        let mut seen = HashSet::new();
        let mut open: Vec<NodeId> = self.id_of(query, self.hash(query)).into_iter().collect();
        while let Some(id) = open.pop() {
            if let (true, Some(node)) = (seen.insert(id), self.node(id)) {
                inputs.extend(node.inputs.iter().cloned());
                open.extend(node.reads.iter().copied());
            }
        }
        inputs
    }
}

/// An answer, or the panic of its computation, and what was read for it, without repetition, in order.
struct Computed {
    value: std::thread::Result<Value>,
    inputs: Vec<Input>,
    reads: Vec<NodeId>,
    forwards: Option<NodeId>,
}

fn compute(access: Access<'_>, snapshot: &Snapshot, query: &Query) -> Computed {
    let mut cx = Cx {
        access,
        snapshot,
        inputs: Vec::new(),
        reads: Vec::new(),
        forwards: None,
        level: query.level(),
    };
    // One object that a translation cannot cope with must not cost all others. A computation changes nothing but the
    // graph, and that only between its steps.
    let value = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(test)]
        tests::panic_as_the_mesh_wants(query, snapshot);
        query::compute(query, &mut cx)
    }));
    let (mut inputs, mut reads) = (cx.inputs, cx.reads);
    inputs.sort_unstable();
    inputs.dedup();
    reads.sort_unstable();
    reads.dedup();
    Computed {
        value,
        inputs,
        reads,
        forwards: cx.forwards,
    }
}

/// The answer to a query, computed if it is not known while others go on with the graph. If they change it meanwhile,
/// it is computed again: what is kept is what would have been computed alone.
pub(crate) fn find_among(among: &Mutex<Generator>, query: &Query) -> (NodeId, Value) {
    loop {
        let (snapshot, hash, age) = {
            let generator = lock(among);
            let hash = generator.graph.hash(query);
            if let Some(known) = generator.graph.known(query, hash) {
                return known;
            }
            (generator.snapshot().clone(), hash, generator.graph.age)
        };
        let computed = compute(Access::Among(among), &snapshot, query);
        let graph = &mut lock(among).graph;
        let known = graph.known(query, hash);
        if known.is_none() && graph.age == age {
            return graph.keep_or_panic(query, hash, computed);
        }
        // What was computed for this answer alone has no reader.
        graph.orphans.extend(computed.reads);
        if let Some(known) = known {
            return known;
        }
    }
}

pub(crate) fn lock(generator: &Mutex<Generator>) -> MutexGuard<'_, Generator> {
    // A computation that panics keeps nothing, so what is kept holds.
    generator.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a computation gets at the answers to other queries.
enum Access<'a> {
    /// It has the graph to itself.
    Alone(&'a mut Graph),
    /// Others go on with it.
    Among(&'a Mutex<Generator>),
}

/// What a query may read; every read is recorded.
pub(crate) struct Cx<'a> {
    access: Access<'a>,
    snapshot: &'a Snapshot,
    inputs: Vec<Input>,
    reads: Vec<NodeId>,
    forwards: Option<NodeId>,
    level: u8,
}

impl<'a> Cx<'a> {
    /// The answer to another query, of a lower level.
    pub(crate) fn get(&mut self, query: &Query) -> Value {
        debug_assert!(
            query.level() < self.level,
            "{query:?} is read by a query of level {}",
            self.level
        );
        let (id, value) = match &mut self.access {
            Access::Alone(graph) => graph.find(self.snapshot, query),
            Access::Among(among) => find_among(among, query),
        };
        self.reads.push(id);
        value
    }

    /// The answer to another query, which is the answer to this one whatever it says: all that was read before only led
    /// to it.
    pub(crate) fn forward(&mut self, query: &Query) -> Value {
        let value = self.get(query);
        self.forwards = self.reads.last().copied();
        value
    }

    /// What a client sees, shared with all that see the same.
    pub(crate) fn seen(&mut self, services: Vec<Arc<Service>>, narrowed: bool) -> Seen {
        match &mut self.access {
            Access::Alone(graph) => graph.views.share(services, narrowed),
            Access::Among(among) => lock(among).graph.views.share(services, narrowed),
        }
    }

    /// A class by its number.
    pub(crate) fn class(&self, id: ClassId) -> Option<Arc<ProxyClass>> {
        match &self.access {
            Access::Alone(graph) => graph.classes.get(&id).cloned(),
            Access::Among(among) => lock(among).graph.classes.get(&id).cloned(),
        }
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
