//! Whose class a change may concern, told once for all proxies.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh::{Input, Kind, Resolution, Snapshot, Update};

use crate::proxy::Proxy;

/// The proxies that a change of the mesh may put into another class.
#[derive(Clone, Debug, Default)]
pub struct Reclassified {
    all: bool,
    namespaces: BTreeSet<Arc<str>>,
}

impl Reclassified {
    /// Those whom an update may concern.
    pub fn by(update: &Update) -> Self {
        let mut concerned = Self::default();
        for input in &update.changed {
            concerned.add(input, &update.snapshot);
        }
        concerned
    }

    /// Whether there is nobody whom it may concern.
    pub fn is_empty(&self) -> bool {
        !self.all && self.namespaces.is_empty()
    }

    /// Whether the proxy is one of them.
    pub fn concerns(&self, proxy: &Proxy) -> bool {
        self.all || self.namespaces.contains(&proxy.namespace)
    }

    fn add(&mut self, changed: &Input, snapshot: &Snapshot) {
        match changed {
            Input::Mesh
            | Input::Kind(Kind::Node | Kind::Sidecar | Kind::WorkloadEntry | Kind::EnvoyFilter)
            | Input::Services
            | Input::Service(_) => self.all = true,
            Input::InNamespace(Kind::Pod | Kind::Sidecar | Kind::WorkloadEntry, namespace) => {
                self.namespaces.insert(namespace.clone());
            }
            Input::Endpoints(key) => match snapshot.service(key) {
                Some(service) if service.resolution != Resolution::Passthrough => {
                    if service.selector.is_empty() {
                        self.namespaces.insert(key.namespace.clone());
                    }
                }
                _ => self.all = true,
            },
            _ => {}
        }
    }
}
