//! Objects for unit tests.

use crate::objects::{Objects, text};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// A fixed set of objects.
#[derive(Debug, Default)]
pub(crate) struct Fixed(BTreeMap<(String, String, String, String), Arc<Value>>);

impl Fixed {
    pub(crate) fn put(&mut self, group: &str, resource: &str, object: Value) {
        let key = (
            group.to_owned(),
            resource.to_owned(),
            text(&object, &["metadata", "namespace"]).to_owned(),
            text(&object, &["metadata", "name"]).to_owned(),
        );
        self.0.insert(key, Arc::new(object));
    }
}

impl Objects for Fixed {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0
            .get(&(group.into(), resource.into(), namespace.into(), name.into()))
            .cloned()
    }
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        self.0
            .iter()
            .filter(|(k, _)| k.0 == group && k.1 == resource && (namespace.is_empty() || k.2 == namespace))
            .map(|(_, v)| v.clone())
            .collect()
    }
}
