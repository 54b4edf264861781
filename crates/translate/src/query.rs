//! The queries, their levels and their answers.

use std::sync::Arc;

use api::networking::VirtualService;
use mesh::{Config, ServiceKey, Visibility};
use xds::resource::{Resource, ResourceSet};

use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::resource_type::ResourceType;
use crate::route::kept::Kept;
use crate::route::virtual_services;
use crate::rules::{HostRules, Rules};
use crate::scope::{Scope, ScopeKey};
use crate::seen::Seen;
use crate::sensitivity::Sensitivity;

/// A question whose answer is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Query {
    /// All DestinationRules by host.
    Rules,
    /// All VirtualServices, ready for use.
    VirtualServices,
    /// What of clients matters to anybody.
    Sensitivity,
    /// What proxies see.
    Scope(ScopeKey),
    /// The DestinationRules that may concern a host.
    HostRules(Arc<str>),
    /// Clusters of a service, for clients of a sort.
    Clusters(ServiceKey, Arc<Client>),
    /// Endpoints of a service's clusters, for clients of a sort.
    Endpoints(ServiceKey, Arc<Client>),
    /// The virtual host of a service's port, and whether the client's namespace is the service's, for clients of a
    /// sort.
    VirtualHost(ServiceKey, u16, bool, Arc<Client>),
    /// Of the services that are seen, the virtual hosts of a port that are the same for clients of all other namespaces.
    VirtualHosts(Arc<Client>, Seen, u16),
    /// Clusters of all services that clients of a sort see.
    OutboundClusters(Arc<Client>, Seen),
    /// Endpoints of all services that clients of a sort see.
    OutboundEndpoints(Arc<Client>, Seen),
    /// Route configurations of clients of a sort.
    OutboundRoutes(Arc<Client>),
    /// What a class is owed.
    Class(ClassId, ResourceType),
}

impl Query {
    /// A query reads only queries of lower levels.
    pub(crate) fn level(&self) -> u8 {
        match self {
            Self::Rules | Self::VirtualServices => 0,
            Self::HostRules(_) | Self::Sensitivity | Self::Scope(_) => 1,
            Self::Clusters(..) | Self::Endpoints(..) | Self::VirtualHost(..) => 2,
            Self::OutboundClusters(..) | Self::OutboundEndpoints(..) | Self::VirtualHosts(..) => 3,
            Self::OutboundRoutes(_) => 4,
            Self::Class(_, ResourceType::Route | ResourceType::Secret | ResourceType::Extension) => 6,
            Self::Class(..) => 5,
        }
    }
}

impl Query {
    /// The answer that leaves out what the question is about and does no harm elsewhere: a service that cannot be
    /// translated is absent. Without rules or scopes others would be sent something wrong, and a class without anything
    /// would take away what its proxies have.
    pub(crate) fn nothing(&self) -> Option<Value> {
        match self {
            Self::Clusters(..) | Self::Endpoints(..) => Some(Value::Resources(Arc::default())),
            Self::VirtualHost(..) => Some(Value::Host(None)),
            _ => None,
        }
    }
}

/// An answer. Two answers are equal if nobody could tell them apart.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// To [`Query::Rules`].
    Rules(Arc<Rules>),
    /// To [`Query::Sensitivity`].
    Sensitivity(Arc<Sensitivity>),
    /// To [`Query::VirtualServices`].
    VirtualServices(Arc<Vec<(Arc<Config<VirtualService>>, Visibility)>>),
    /// To [`Query::HostRules`].
    HostRules(Arc<HostRules>),
    /// To [`Query::Scope`].
    Scope(Arc<Scope>),
    /// To [`Query::Clusters`] and [`Query::Endpoints`].
    Resources(Arc<Vec<Arc<Resource>>>),
    /// To [`Query::VirtualHost`].
    Host(Option<Arc<Kept>>),
    /// To [`Query::VirtualHosts`], by the place of the service.
    Hosts(Arc<Vec<Option<Arc<Kept>>>>),
    /// To [`Query::Class`] and those of all services.
    Set(Arc<ResourceSet>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rules(a), Self::Rules(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Sensitivity(a), Self::Sensitivity(b)) => a == b,
            (Self::HostRules(a), Self::HostRules(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Scope(a), Self::Scope(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Resources(a), Self::Resources(b)) => {
                Arc::ptr_eq(a, b)
                    || (a.len() == b.len()
                        && a.iter()
                            .zip(b.iter())
                            .all(|(a, b)| a.name == b.name && a.hash == b.hash))
            }
            (Self::VirtualServices(a), Self::VirtualServices(b)) => a == b,
            (Self::Host(a), Self::Host(b)) => a == b,
            (Self::Hosts(a), Self::Hosts(b)) => a == b,
            (Self::Set(a), Self::Set(b)) => Arc::ptr_eq(a, b) || a.hash() == b.hash(),
            _ => false,
        }
    }
}

pub(crate) fn compute(query: &Query, cx: &mut Cx<'_>) -> Value {
    match query {
        Query::Rules => Value::Rules(Arc::new(crate::rules::all(cx))),
        Query::VirtualServices => Value::VirtualServices(Arc::new(virtual_services::all(cx))),
        Query::Sensitivity => Value::Sensitivity(Arc::new(crate::sensitivity::of_mesh(cx))),
        Query::HostRules(host) => Value::HostRules(Arc::new(crate::rules::of_host(cx, host))),
        Query::Scope(key) => Value::Scope(Arc::new(crate::scope::of_key(cx, key))),
        Query::Clusters(key, client) => Value::Resources(Arc::new(crate::cluster::of_service(cx, key, client))),
        Query::Endpoints(key, client) => Value::Resources(Arc::new(crate::endpoint::of_service(cx, key, client))),
        Query::VirtualHost(key, port, is_local, client) => {
            let kept = crate::route::kept::compute(cx, key, *port, *is_local, client);
            Value::Host(kept.map(Arc::new))
        }
        Query::VirtualHosts(client, seen, port) => {
            Value::Hosts(Arc::new(crate::route::kept::of_anyone(cx, client, seen, *port)))
        }
        Query::OutboundClusters(client, seen) => Value::Set(crate::cluster::outbound(cx, client, seen)),
        Query::OutboundEndpoints(client, seen) => Value::Set(crate::endpoint::outbound(cx, client, seen)),
        Query::OutboundRoutes(client) => Value::Set(crate::route::outbound(cx, client)),
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
        match self.get(&Query::Scope(key)) {
            Value::Scope(scope) => scope,
            _ => Arc::default(),
        }
    }

    pub(crate) fn rules(&mut self) -> Arc<Rules> {
        match self.get(&Query::Rules) {
            Value::Rules(rules) => rules,
            _ => Arc::default(),
        }
    }

    pub(crate) fn virtual_services(&mut self) -> Arc<Vec<(Arc<Config<VirtualService>>, Visibility)>> {
        match self.get(&Query::VirtualServices) {
            Value::VirtualServices(all) => all,
            _ => Arc::default(),
        }
    }

    pub(crate) fn sensitivity(&mut self) -> Arc<Sensitivity> {
        match self.get(&Query::Sensitivity) {
            Value::Sensitivity(sensitivity) => sensitivity,
            _ => Arc::default(),
        }
    }

    pub(crate) fn host_rules(&mut self, host: &Arc<str>) -> Arc<HostRules> {
        match self.get(&Query::HostRules(host.clone())) {
            Value::HostRules(rules) => rules,
            _ => Arc::default(),
        }
    }

    pub(crate) fn resources(&mut self, query: &Query) -> Arc<Vec<Arc<Resource>>> {
        match self.get(query) {
            Value::Resources(resources) => resources,
            _ => Arc::default(),
        }
    }

    pub(crate) fn kept(&mut self, query: &Query) -> Option<Arc<Kept>> {
        match self.get(query) {
            Value::Host(kept) => kept,
            _ => None,
        }
    }

    pub(crate) fn virtual_hosts(&mut self, query: &Query) -> Arc<Vec<Option<Arc<Kept>>>> {
        match self.get(query) {
            Value::Hosts(hosts) => hosts,
            _ => Arc::default(),
        }
    }

    pub(crate) fn set(&mut self, query: &Query) -> Arc<ResourceSet> {
        match self.get(query) {
            Value::Set(set) => set,
            _ => Arc::default(),
        }
    }
}
