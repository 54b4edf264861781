//! Read access to stored objects, for the parts of the server that decide by what is stored
//! (authorization, admission, proxying) without knowing the store.

use serde_json::Value;
use std::sync::Arc;

/// What authorization and admission may read.
pub trait Objects: Send + Sync {
    /// One object; `namespace` is empty for cluster-scoped resources.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All objects of a resource in `namespace` (everywhere when empty), by name.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
}

/// A string at a path of object keys; empty when absent.
#[must_use]
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter()
        .try_fold(value, |v, key| v.get(key))
        .and_then(Value::as_str)
        .unwrap_or_default()
}
