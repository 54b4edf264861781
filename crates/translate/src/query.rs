//! The queries, their levels and their answers.

use std::sync::Arc;

use mesh::ServiceKey;
use xds::resource::{Resource, ResourceSet};

use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::resource_type::ResourceType;
use crate::rules::{HostRules, Rules};
use crate::scope::{Scope, ScopeKey};

/// A question whose answer is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Query {
    /// All DestinationRules by host.
    Rules,
    /// What proxies see.
    Scope(ScopeKey),
    /// The DestinationRules that may concern a host.
    HostRules(Arc<str>),
    /// Clusters of a service, for clients of a sort.
    Clusters(ServiceKey, Arc<Client>),
    /// Endpoints of a service's clusters, for clients of a sort.
    Endpoints(ServiceKey, Arc<Client>),
    /// What clients of a sort are owed towards other services.
    Outbound(Arc<Client>, ResourceType),
    /// What a class is owed.
    Class(ClassId, ResourceType),
}

impl Query {
    /// A query reads only queries of lower levels.
    pub(crate) fn level(&self) -> u8 {
        match self {
            Self::Rules | Self::Scope(_) => 0,
            Self::HostRules(_) => 1,
            Self::Clusters(..) | Self::Endpoints(..) => 2,
            Self::Outbound(..) => 3,
            Self::Class(_, ResourceType::Route | ResourceType::Secret | ResourceType::Extension) => 5,
            Self::Class(..) => 4,
        }
    }
}

/// An answer. Two answers are equal if nobody could tell them apart.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// To [`Query::Rules`].
    Rules(Arc<Rules>),
    /// To [`Query::HostRules`].
    HostRules(Arc<HostRules>),
    /// To [`Query::Scope`].
    Scope(Arc<Scope>),
    /// To [`Query::Clusters`] and [`Query::Endpoints`].
    Resources(Arc<Vec<Arc<Resource>>>),
    /// To [`Query::Outbound`] and [`Query::Class`].
    Set(Arc<ResourceSet>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rules(a), Self::Rules(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::HostRules(a), Self::HostRules(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Scope(a), Self::Scope(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Resources(a), Self::Resources(b)) => {
                Arc::ptr_eq(a, b)
                    || (a.len() == b.len()
                        && a.iter()
                            .zip(b.iter())
                            .all(|(a, b)| a.name == b.name && a.hash == b.hash))
            }
            (Self::Set(a), Self::Set(b)) => Arc::ptr_eq(a, b) || a.hash() == b.hash(),
            _ => false,
        }
    }
}

pub(crate) fn compute(query: &Query, cx: &mut Cx<'_>) -> Value {
    match query {
        Query::Rules => Value::Rules(Arc::new(crate::rules::all(cx))),
        Query::HostRules(host) => Value::HostRules(Arc::new(crate::rules::of_host(cx, host))),
        Query::Scope(key) => Value::Scope(Arc::new(crate::scope::of_key(cx, key))),
        Query::Clusters(key, client) => Value::Resources(Arc::new(crate::cluster::of_service(cx, key, client))),
        Query::Endpoints(key, client) => Value::Resources(Arc::new(crate::endpoint::of_service(cx, key, client))),
        Query::Outbound(client, ResourceType::Endpoints) => Value::Set(crate::endpoint::outbound(cx, client)),
        Query::Outbound(client, ResourceType::Route) => Value::Set(crate::route::outbound(cx, client)),
        Query::Outbound(client, _) => Value::Set(crate::cluster::outbound(cx, client)),
        Query::Class(id, resource_type) => Value::Set(match cx.class(*id) {
            Some(class) => crate::class::resources(cx, &class, *id, *resource_type),
            None => Arc::default(),
        }),
    }
}

impl Cx<'_> {
    /// What proxies of a namespace see without a Sidecar.
    pub(crate) fn scope(&mut self, namespace: &Arc<str>) -> Arc<Scope> {
        self.scope_of(ScopeKey {
            namespace: namespace.clone(),
            sidecar: None,
        })
    }

    pub(crate) fn scope_of(&mut self, key: ScopeKey) -> Arc<Scope> {
        match self.get(Query::Scope(key)) {
            Value::Scope(scope) => scope,
            _ => Arc::default(),
        }
    }

    pub(crate) fn rules(&mut self) -> Arc<Rules> {
        match self.get(Query::Rules) {
            Value::Rules(rules) => rules,
            _ => Arc::default(),
        }
    }

    pub(crate) fn host_rules(&mut self, host: &Arc<str>) -> Arc<HostRules> {
        match self.get(Query::HostRules(host.clone())) {
            Value::HostRules(rules) => rules,
            _ => Arc::default(),
        }
    }

    pub(crate) fn resources(&mut self, query: Query) -> Arc<Vec<Arc<Resource>>> {
        match self.get(query) {
            Value::Resources(resources) => resources,
            _ => Arc::default(),
        }
    }

    pub(crate) fn set(&mut self, query: Query) -> Arc<ResourceSet> {
        match self.get(query) {
            Value::Set(set) => set,
            _ => Arc::default(),
        }
    }
}
