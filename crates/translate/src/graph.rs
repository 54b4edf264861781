//! Memoised queries that record what they read, so that a change costs what it touches and not what exists.
//!
//! Every query has a level, and reads only inputs and queries of lower levels. An update therefore walks upwards once:
//! what read a changed input is computed again; if its value is what it was, nothing above it is looked at.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use mesh::{Input, Snapshot};

use crate::proxy::ProxyClass;
use crate::query::{self, Query, Value};

/// Number of a proxy class in a generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub(crate) u32);

#[derive(Debug)]
struct Node {
    value: Value,
    inputs: HashSet<Input>,
    queries: HashSet<Query>,
    used_by: HashSet<Query>,
}

/// Answers that are known, and who read what.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<Query, Node>,
    readers: HashMap<Input, HashSet<Query>>,
    pub(crate) classes: BTreeMap<ClassId, Arc<ProxyClass>>,
    pub(crate) computed: u64,
    /// Queries that lost their last reader.
    orphans: Vec<Query>,
}

impl Graph {
    /// The answer to a query, computed if it is not known.
    pub(crate) fn get(&mut self, snapshot: &Snapshot, query: &Query) -> Value {
        if let Some(node) = self.nodes.get(query) {
            return node.value.clone();
        }
        let value = self.compute(snapshot, query);
        if let Some(node) = self.nodes.get(query) {
            return node.value.clone();
        }
        value
    }

    fn compute(&mut self, snapshot: &Snapshot, query: &Query) -> Value {
        self.computed += 1;
        let mut cx = Cx {
            graph: self,
            snapshot,
            inputs: HashSet::new(),
            queries: HashSet::new(),
            level: query.level(),
        };
        let value = query::compute(query, &mut cx);
        let (inputs, queries) = (cx.inputs, cx.queries);
        for input in &inputs {
            self.readers.entry(input.clone()).or_default().insert(query.clone());
        }
        for read in &queries {
            if let Some(node) = self.nodes.get_mut(read) {
                node.used_by.insert(query.clone());
            }
        }
        let used_by = self.nodes.remove(query).map(|old| old.used_by).unwrap_or_default();
        self.nodes.insert(
            query.clone(),
            Node {
                value: value.clone(),
                inputs,
                queries,
                used_by,
            },
        );
        value
    }

    /// Computes anew what read a changed input; answers whose value differs now.
    pub(crate) fn update<'a>(
        &mut self,
        snapshot: &Snapshot,
        changed: impl IntoIterator<Item = &'a Input>,
    ) -> Vec<Query> {
        let mut dirty: BTreeMap<u8, HashSet<Query>> = BTreeMap::new();
        for input in changed {
            for query in self.readers.get(input).into_iter().flatten() {
                dirty.entry(query.level()).or_default().insert(query.clone());
            }
        }
        let mut different = Vec::new();
        while let Some((_, queries)) = dirty.pop_first() {
            for query in queries {
                let Some(old) = self.forget_edges(&query) else { continue };
                let value = self.compute(snapshot, &query);
                if value == old {
                    continue;
                }
                if let Some(node) = self.nodes.get(&query) {
                    for user in &node.used_by {
                        dirty.entry(user.level()).or_default().insert(user.clone());
                    }
                }
                different.push(query);
            }
        }
        self.collect();
        different
    }

    fn forget_edges(&mut self, query: &Query) -> Option<Value> {
        let node = self.nodes.get_mut(query)?;
        let (inputs, queries) = (std::mem::take(&mut node.inputs), std::mem::take(&mut node.queries));
        let value = node.value.clone();
        for input in &inputs {
            if let Some(readers) = self.readers.get_mut(input) {
                readers.remove(query);
                if readers.is_empty() {
                    self.readers.remove(input);
                }
            }
        }
        for read in &queries {
            if let Some(node) = self.nodes.get_mut(read) {
                node.used_by.remove(query);
                if node.used_by.is_empty() {
                    self.orphans.push(read.clone());
                }
            }
        }
        Some(value)
    }

    /// Forgets a class's answers, and what nobody reads any more.
    pub(crate) fn release(&mut self, class: ClassId) {
        let roots: Vec<Query> = self
            .nodes
            .keys()
            .filter(|q| matches!(q, Query::Class(id, _) if *id == class))
            .cloned()
            .collect();
        for root in roots {
            self.forget_edges(&root);
            self.nodes.remove(&root);
        }
        self.classes.remove(&class);
        self.collect();
    }

    /// Forgets what has lost its readers and found no new one.
    fn collect(&mut self) {
        while let Some(query) = self.orphans.pop() {
            let unused = self.nodes.get(&query).is_some_and(|node| node.used_by.is_empty());
            if unused && !matches!(query, Query::Class(..)) {
                self.forget_edges(&query);
                self.nodes.remove(&query);
            }
        }
    }

    /// Number of answers that are kept.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Inputs that an answer rests on, directly or through other answers.
    pub(crate) fn inputs_of(&self, query: &Query) -> HashSet<Input> {
        let mut inputs = HashSet::new();
        let mut seen = HashSet::new();
        let mut open = vec![query.clone()];
        while let Some(query) = open.pop() {
            if let (true, Some(node)) = (seen.insert(query.clone()), self.nodes.get(&query)) {
                inputs.extend(node.inputs.iter().cloned());
                open.extend(node.queries.iter().cloned());
            }
        }
        inputs
    }
}

/// What a query may read; every read is recorded.
pub(crate) struct Cx<'a> {
    graph: &'a mut Graph,
    snapshot: &'a Snapshot,
    inputs: HashSet<Input>,
    queries: HashSet<Query>,
    level: u8,
}

impl<'a> Cx<'a> {
    /// The answer to another query, of a lower level.
    pub(crate) fn get(&mut self, query: Query) -> Value {
        debug_assert!(
            query.level() < self.level,
            "{query:?} is read by a query of level {}",
            self.level
        );
        let value = self.graph.get(self.snapshot, &query);
        self.queries.insert(query);
        value
    }

    /// The snapshot, for a read that is recorded as `input`.
    pub(crate) fn read(&mut self, input: Input) -> &'a Snapshot {
        self.inputs.insert(input);
        self.snapshot
    }

    /// A class by its number.
    pub(crate) fn class(&self, id: ClassId) -> Option<Arc<ProxyClass>> {
        self.graph.classes.get(&id).cloned()
    }

    /// What never changes: the DNS suffix.
    pub(crate) fn domain(&self) -> &'a str {
        &self.snapshot.domain
    }
}
