//! The part of a proxy class that matters when it is a client of other services.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh::Locality;

use crate::proxy::{Flavour, ProxyClass, Role};

/// What outbound configuration may read of a proxy. The less of it is filled in, the more classes share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Client {
    pub(crate) role: Role,
    pub(crate) flavour: Flavour,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
    pub(crate) cluster: Arc<str>,
    /// Namespace; absent where no configuration depends on it.
    pub(crate) namespace: Option<Arc<str>>,
    /// Labels; absent where nothing selects by them.
    pub(crate) labels: Option<Arc<BTreeMap<String, String>>>,
    /// Where it runs; only where endpoints are ordered by it.
    pub(crate) locality: Option<Locality>,
    /// Whether the clusters are those that a gateway passes mutual TLS through to, named by server name.
    pub(crate) through: bool,
    /// Node it runs on; only for services that stay on a node.
    pub(crate) node: Option<Arc<str>>,
}

impl Client {
    /// The client that a class is.
    pub(crate) fn of_class(class: &ProxyClass) -> Self {
        Self {
            role: class.role,
            flavour: class.flavour,
            ipv4: class.ipv4,
            ipv6: class.ipv6,
            cluster: class.cluster.clone(),
            namespace: Some(class.namespace.clone()),
            labels: Some(class.workload_labels.clone()),
            locality: Some(class.locality.clone()),
            through: false,
            node: class.node.clone(),
        }
    }

    pub(crate) fn is_sidecar(&self) -> bool {
        self.role == Role::Sidecar
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}
