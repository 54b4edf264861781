//! The thin shell around the decisions: caches fed by watches, work queues, writes, events.
//!
//! A controller is a [`Reconciler`]: given a key it reads the caches, asks its pure decision function, and carries out
//! the answer. Nothing in here knows what a Deployment is.

mod cache;
mod catalogue;
mod claims;
mod events;
mod kind;
mod queue;
mod runner;

pub use cache::Cache;
pub use catalogue::{Resource, catalogue};
pub use claims::claimed;
pub use events::Recorder;
pub use kind::Kind;
pub use queue::Queue;
pub use runner::{Reconciler, Requeue, Runner};

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Names an object among those of its kind. The namespace is empty for cluster-scoped kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of the object that carries this metadata.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Key::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}
