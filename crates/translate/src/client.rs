//! The part of a proxy class that matters when it is a client of other services.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh::Locality;

use crate::graph::Cx;
use crate::proxy::{Flavour, ProxyClass, Role};
use crate::scope::ScopeKey;
use crate::sidecar::{self, SidecarName};

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
    /// The Sidecar that narrows what it sees; absent where a single service is concerned.
    pub(crate) sidecar: Option<SidecarName>,
    /// Whether HTTP/1 headers keep their case.
    pub(crate) preserve_case: bool,
    /// Whether servers are told how often a request was tried.
    pub(crate) attempt_count: bool,
    /// Node it runs on; only for services that stay on a node.
    pub(crate) node: Option<Arc<str>>,
}

impl Client {
    /// The client that a class is, with the Sidecar that is for it.
    pub(crate) fn scoped(cx: &mut Cx<'_>, class: &ProxyClass) -> Self {
        Self {
            sidecar: sidecar_of(cx, class),
            ..Self::of_class(class)
        }
    }

    /// The client that a class is, as far as single services are concerned.
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
            sidecar: None,
            preserve_case: class.settings.preserve_case,
            attempt_count: !class.settings.no_attempt_count,
            node: class.node.clone(),
        }
    }

    /// What it sees.
    pub(crate) fn scope(&self) -> ScopeKey {
        ScopeKey {
            namespace: self.namespace.clone().unwrap_or_default(),
            sidecar: self.sidecar.clone(),
        }
    }

    pub(crate) fn is_sidecar(&self) -> bool {
        self.role == Role::Sidecar
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

fn sidecar_of(cx: &mut Cx<'_>, class: &ProxyClass) -> Option<SidecarName> {
    if !class.is_sidecar() {
        return None;
    }
    let root = &cx.mesh().root_namespace;
    let sidecar = sidecar::of_workload(cx.all(), root, &class.namespace, &class.workload_labels)?;
    Some((sidecar.meta.namespace.clone(), sidecar.meta.name.clone()))
}
