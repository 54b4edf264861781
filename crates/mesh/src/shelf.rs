//! Objects by namespace and name, in two levels, so that a change copies one namespace and not all.

use std::collections::BTreeMap;
use std::sync::Arc;

type Names<T> = BTreeMap<Arc<str>, Arc<T>>;

/// Persistent map of namespace and name to object.
#[derive(Debug)]
pub struct Shelf<T> {
    namespaces: Arc<BTreeMap<Arc<str>, Arc<Names<T>>>>,
}

impl<T> Clone for Shelf<T> {
    fn clone(&self) -> Self {
        Self {
            namespaces: self.namespaces.clone(),
        }
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            namespaces: Arc::default(),
        }
    }
}

impl<T> Shelf<T> {
    /// The object of that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.namespaces.get(namespace)?.get(name)
    }

    /// All objects, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.namespaces.values().flat_map(|names| names.values())
    }

    /// All objects of a namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> + use<'_, T> {
        self.namespaces
            .get(namespace)
            .into_iter()
            .flat_map(|names| names.values())
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.namespaces.values().map(|names| names.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    pub(crate) fn insert(&mut self, namespace: Arc<str>, name: Arc<str>, object: Arc<T>) -> Option<Arc<T>> {
        let names = Arc::make_mut(&mut self.namespaces).entry(namespace).or_default();
        Arc::make_mut(names).insert(name, object)
    }

    pub(crate) fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.get(namespace, name)?;
        let namespaces = Arc::make_mut(&mut self.namespaces);
        let names = Arc::make_mut(namespaces.get_mut(namespace)?);
        let removed = names.remove(name);
        if names.is_empty() {
            namespaces.remove(namespace);
        }
        removed
    }
}
