//! The queries, their levels and their answers.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use mesh::{SecretReader, Service, ServiceKey, Visibility};
use xds::resource::{Resource, ResourceSet};

use crate::authz;
use crate::client::Client;
use crate::cluster::Target;
use crate::graph::{ClassId, Cx};
use crate::listener::chain::{Finished, Socket};
use crate::listener::gateway::server_tls;
use crate::listener::{self, Common, Merged, hcm};
use crate::resource_type::ResourceType;
use crate::route::Sniffed;
use crate::route::bound::{self, ByGateway};
use crate::route::encoded;
use crate::route::gateway;
use crate::route::kept::Kept;
use crate::route::made::{self, Made};
use crate::route::virtual_services::{self, Ready};
use crate::rules::{HostRules, Rules};
use crate::scope::{Outward, Scope, ScopeKey};
use crate::seen::Seen;
use crate::sensitivity::Sensitivity;
use crate::tls::Mutual;

/// A question whose answer is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Query {
    /// All DestinationRules by host.
    Rules,
    /// All VirtualServices, ready for use.
    VirtualServices,
    /// What a reader of secrets is sent under the name of a credential.
    Credential(SecretReader, Arc<str>),
    /// Ports of a class's workload that services lead to.
    Targets(ClassId),
    /// Servers of the Gateways that select a class.
    Servers(ClassId),
    /// Whether a class passes mutual TLS through to any service.
    PassesThrough(ClassId),
    /// What all listeners of a class have in common.
    Common(ClassId),
    /// What connection managers of a sort have in common.
    Manager(ClassId, hcm::Sort),
    /// How TLS ends at a gateway's server.
    Socket(Arc<server_tls::Question>),
    /// The filter chain of a gateway's server that terminates HTTPS.
    HttpsChain(Arc<listener::gateway::Question>),
    /// Filter chains of a port at an address that a sidecar's workload calls.
    OutboundChains(Arc<listener::outbound::chains::Question>),
    /// A listener, put together from filter chains.
    Listener(Arc<listener::Question>),
    /// Listeners of a sidecar for what comes to its workload.
    Inbound(ClassId),
    /// Envoy's policies of an AuthorizationPolicy.
    Policies(Arc<authz::Question>),
    /// What of clients matters to anybody.
    Sensitivity,
    /// The services that proxies of a namespace see without a Sidecar.
    Visible(Arc<str>),
    /// What proxies see.
    Scope(ScopeKey),
    /// Whether there is any DestinationRule.
    HasRules,
    /// Whether a route or a rule depends on labels of clients that see this.
    SelectsByLabels(ScopeKey),
    /// The DestinationRules that may concern a host.
    HostRules(Arc<str>),
    /// What outbound listeners are made of.
    Outward(ScopeKey),
    /// The service of a host, as proxies see it.
    Known(ScopeKey, Arc<str>),
    /// The VirtualServices that proxies see, by the gateways that they name.
    ByGateway(ScopeKey),
    /// The VirtualServices that proxies see for one gateway.
    Bound(ScopeKey, Arc<str>),
    /// The VirtualServices that proxies see for one gateway, with routes.
    BoundRoutes(Arc<bound::Question>),
    /// Routes of a sidecar for a host whose protocol is found out by looking.
    SniffedRoutes(Arc<Sniffed>),
    /// Retries of routes that say nothing of them, and whether they hash.
    Retries(bool),
    /// Routes of a VirtualService.
    Routes(Arc<made::Question>),
    /// A gateway's route configuration.
    GatewayRoutes(Arc<gateway::Question>),
    /// What mutual TLS inside the mesh has in common.
    MutualTls(Mutual),
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
    /// Name of the question, for counters.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rules => "Rules",
            Self::VirtualServices => "VirtualServices",
            Self::Targets(..) => "Targets",
            Self::SniffedRoutes(..) => "SniffedRoutes",
            Self::HasRules => "HasRules",
            Self::SelectsByLabels(..) => "SelectsByLabels",
            Self::Credential(..) => "Credential",
            Self::Outward(..) => "Outward",
            Self::MutualTls(..) => "MutualTls",
            Self::PassesThrough(..) => "PassesThrough",
            Self::Visible(..) => "Visible",
            Self::Servers(..) => "Servers",
            Self::Common(..) => "Common",
            Self::Manager(..) => "Manager",
            Self::Socket(..) => "Socket",
            Self::HttpsChain(..) => "HttpsChain",
            Self::OutboundChains(..) => "OutboundChains",
            Self::Listener(..) => "Listener",
            Self::Inbound(..) => "Inbound",
            Self::Policies(..) => "Policies",
            Self::Sensitivity => "Sensitivity",
            Self::Scope(..) => "Scope",
            Self::HostRules(..) => "HostRules",
            Self::Known(..) => "Known",
            Self::ByGateway(..) => "ByGateway",
            Self::Bound(..) => "Bound",
            Self::BoundRoutes(..) => "BoundRoutes",
            Self::Retries(..) => "Retries",
            Self::Routes(..) => "Routes",
            Self::GatewayRoutes(..) => "GatewayRoutes",
            Self::Clusters(..) => "Clusters",
            Self::Endpoints(..) => "Endpoints",
            Self::VirtualHost(..) => "VirtualHost",
            Self::VirtualHosts(..) => "VirtualHosts",
            Self::OutboundClusters(..) => "OutboundClusters",
            Self::OutboundEndpoints(..) => "OutboundEndpoints",
            Self::OutboundRoutes(..) => "OutboundRoutes",
            Self::Class(..) => "Class",
        }
    }

    /// A query reads only queries of lower levels.
    pub(crate) fn level(&self) -> u8 {
        match self {
            Self::Rules | Self::VirtualServices | Self::Targets(_) | Self::Retries(_) => 0,
            Self::Policies(_)
            | Self::Visible(_)
            | Self::MutualTls(_)
            | Self::Credential(..)
            | Self::SniffedRoutes(_) => 0,
            Self::HasRules | Self::HostRules(_) | Self::Sensitivity | Self::Scope(_) | Self::Servers(_) => 1,
            Self::Clusters(..) | Self::Endpoints(..) | Self::VirtualHost(..) => 2,
            Self::Outward(_)
            | Self::Known(..)
            | Self::SelectsByLabels(_)
            | Self::ByGateway(_)
            | Self::Common(_)
            | Self::PassesThrough(_) => 2,
            Self::OutboundClusters(..) | Self::OutboundEndpoints(..) | Self::VirtualHosts(..) => 3,
            Self::Bound(..) | Self::Routes(_) | Self::Manager(..) | Self::Socket(_) => 3,
            Self::OutboundRoutes(_) | Self::BoundRoutes(_) => 4,
            Self::HttpsChain(_) | Self::OutboundChains(_) | Self::Inbound(_) => 4,
            Self::Listener(_) | Self::GatewayRoutes(_) => 5,
            Self::Class(..) => 6,
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
            Self::HttpsChain(_) => Some(Value::Chain(None)),
            Self::Credential(..) => Some(Value::Resource(None)),
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
    VirtualServices(Arc<Vec<(Ready, Visibility)>>),
    /// To [`Query::Targets`].
    Targets(Arc<Vec<Target>>),
    /// To [`Query::Servers`].
    Servers(Arc<Merged>),
    /// To [`Query::PassesThrough`], [`Query::HasRules`] and [`Query::SelectsByLabels`].
    Flag(bool),
    /// To [`Query::Visible`].
    Seen(Seen),
    /// To [`Query::Common`].
    Common(Option<Arc<Common>>),
    /// To [`Query::Manager`], [`Query::Retries`] and [`Query::MutualTls`].
    Bytes(Bytes),
    /// To [`Query::Socket`].
    Socket(Option<Arc<Socket>>),
    /// To [`Query::HttpsChain`].
    Chain(Option<Arc<Finished>>),
    /// To [`Query::OutboundChains`].
    Chains(Arc<Vec<Arc<Finished>>>),
    /// To [`Query::Policies`].
    Policies(Arc<authz::Encoded>),
    /// To [`Query::HostRules`].
    HostRules(Arc<HostRules>),
    /// To [`Query::Scope`].
    Scope(Arc<Scope>),
    /// To [`Query::Outward`].
    Outward(Arc<Outward>),
    /// To [`Query::Known`].
    Service(Option<Arc<Service>>),
    /// To [`Query::ByGateway`].
    ByGateway(Arc<ByGateway>),
    /// To [`Query::Bound`].
    Bound(Arc<Vec<Ready>>),
    /// To [`Query::BoundRoutes`].
    BoundRoutes(Arc<Vec<bound::Served>>),
    /// To [`Query::Routes`].
    Routes(Arc<Made>),
    /// To [`Query::GatewayRoutes`], [`Query::SniffedRoutes`], [`Query::Listener`] and [`Query::Credential`].
    Resource(Option<Arc<Resource>>),
    /// To [`Query::Clusters`], [`Query::Endpoints`] and [`Query::Inbound`].
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
            (Self::Servers(a), Self::Servers(b)) => a == b,
            (Self::Service(a), Self::Service(b)) => a == b,
            (Self::ByGateway(a), Self::ByGateway(b)) => a == b,
            (Self::Bound(a), Self::Bound(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::BoundRoutes(a), Self::BoundRoutes(b)) => a == b,
            (Self::Routes(a), Self::Routes(b)) => a == b,
            (Self::Targets(a), Self::Targets(b)) => a == b,
            (Self::Common(a), Self::Common(b)) => a == b,
            (Self::Flag(a), Self::Flag(b)) => a == b,
            (Self::Outward(a), Self::Outward(b)) => a == b,
            (Self::Seen(a), Self::Seen(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Socket(a), Self::Socket(b)) => a == b,
            (Self::Chain(a), Self::Chain(b)) => a == b,
            (Self::Chains(a), Self::Chains(b)) => a == b,
            (Self::Policies(a), Self::Policies(b)) => a == b,
            (Self::Resource(a), Self::Resource(b)) => match (a, b) {
                (Some(a), Some(b)) => a.name == b.name && a.hash == b.hash,
                (a, b) => a.is_none() && b.is_none(),
            },
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
        Query::Servers(id) => Value::Servers(match cx.class(*id) {
            Some(class) => Arc::new(listener::merged_servers(cx, &class, *id)),
            None => Arc::default(),
        }),
        Query::Targets(id) => Value::Targets(match cx.class(*id) {
            Some(class) => Arc::new(crate::cluster::targets(cx, &class)),
            None => Arc::default(),
        }),
        Query::PassesThrough(id) => {
            let class = cx.class(*id);
            Value::Flag(class.is_some_and(|class| listener::passes_through(cx, &class, *id)))
        }
        Query::Credential(reader, name) => Value::Resource(crate::secret::credential(cx, reader, name)),
        Query::SniffedRoutes(question) => Value::Resource(Some(crate::route::sniffed(question))),
        Query::Outward(key) => Value::Outward(Arc::new(crate::scope::outward(cx, key))),
        Query::Visible(namespace) => Value::Seen(crate::scope::visible(cx, namespace)),
        Query::Common(id) => {
            let class = cx.class(*id);
            Value::Common(class.map(|class| Arc::new(listener::common(cx, class, *id))))
        }
        Query::Manager(id, sort) => Value::Bytes(hcm::rest(cx, *id, *sort)),
        Query::Socket(question) => Value::Socket(server_tls::answer(cx, question)),
        Query::HttpsChain(question) => Value::Chain(listener::gateway::https_chain(cx, question)),
        Query::OutboundChains(question) => Value::Chains(Arc::new(listener::outbound::chains::answer(cx, question))),
        Query::Listener(question) => Value::Resource(listener::put_together(cx, question)),
        Query::Policies(question) => Value::Policies(Arc::new(authz::Encoded::of(question))),
        Query::Inbound(id) => Value::Resources(Arc::new(listener::inbound(cx, *id))),
        Query::Known(key, host) => Value::Service(cx.seen_of(key).service(host).cloned()),
        Query::ByGateway(key) => Value::ByGateway(Arc::new(bound::by_gateway(cx, key))),
        Query::Bound(key, gateway) => Value::Bound(bound::of_gateway(cx, key, gateway)),
        Query::BoundRoutes(question) => Value::BoundRoutes(Arc::new(bound::routes(cx, question))),
        Query::MutualTls(mutual) => Value::Bytes(crate::tls::mesh_client(mutual)),
        Query::Retries(hashed) => Value::Bytes(encoded::default_retries(cx, *hashed)),
        Query::Routes(question) => Value::Routes(Arc::new(made::routes(cx, question))),
        Query::GatewayRoutes(question) => Value::Resource(Some(Arc::new(gateway::configuration(cx, question)))),
        Query::Sensitivity => Value::Sensitivity(Arc::new(crate::sensitivity::of_mesh(cx))),
        Query::SelectsByLabels(key) => Value::Flag(crate::scope::selects_by_labels(cx, key)),
        Query::HasRules => Value::Flag(!cx.rules().is_empty()),
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

/// The answer to a query of which nothing differs but answers that it read (before and now), from what it was; `None` if
/// it has to be computed. A set of a thousand services' resources is not put together anew for one of them.
pub(crate) fn patch(query: &Query, was: &Value, steps: &[(&Value, &Value)]) -> Option<Value> {
    let Value::Set(was) = was else { return None };
    let set = match query {
        // A Sidecar may leave out some of a service's resources.
        Query::OutboundClusters(_, seen) | Query::OutboundEndpoints(_, seen) if !seen.narrowed => {
            let (mut gone, mut new) = (Vec::new(), Vec::new());
            for step in steps {
                let (Value::Resources(before), Value::Resources(now)) = step else {
                    return None;
                };
                gone.extend(before.iter());
                new.extend(now.iter().cloned());
            }
            was.replace(&gone, new)?
        }
        // What lies over the clusters of all services does not depend on them.
        Query::Class(_, ResourceType::Cluster) => {
            let [(Value::Set(before), Value::Set(now))] = steps else {
                return None;
            };
            let (_, own) = was.layers().filter(|(base, _)| Arc::ptr_eq(base, before))?;
            ResourceSet::over(now.clone(), own.iter().cloned())
        }
        _ => return None,
    };
    Some(Value::Set(Arc::new(set)))
}

impl Cx<'_> {
    /// The services that proxies of a namespace see without a Sidecar.
    pub(crate) fn visible(&mut self, namespace: &Arc<str>) -> Seen {
        match self.get(&Query::Visible(namespace.clone())) {
            Value::Seen(seen) => seen,
            _ => Seen::default(),
        }
    }

    pub(crate) fn outward(&mut self, key: &ScopeKey) -> Arc<Outward> {
        match self.get(&Query::Outward(key.clone())) {
            Value::Outward(outward) => outward,
            _ => Arc::default(),
        }
    }

    /// The services that proxies see, without what routes to them.
    pub(crate) fn seen_of(&mut self, key: &ScopeKey) -> Seen {
        match key.sidecar {
            None => self.visible(&key.namespace),
            Some(_) => self.scope_of(key.clone()).seen.clone(),
        }
    }

    pub(crate) fn passes_through(&mut self, class: ClassId) -> bool {
        matches!(self.get(&Query::PassesThrough(class)), Value::Flag(true))
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

    pub(crate) fn virtual_services(&mut self) -> Arc<Vec<(Ready, Visibility)>> {
        match self.get(&Query::VirtualServices) {
            Value::VirtualServices(all) => all,
            _ => Arc::default(),
        }
    }

    pub(crate) fn servers(&mut self, class: ClassId) -> Arc<Merged> {
        match self.get(&Query::Servers(class)) {
            Value::Servers(merged) => merged,
            _ => Arc::default(),
        }
    }

    /// The service of a host, without reading all that is seen beside it.
    pub(crate) fn known(&mut self, scope: &ScopeKey, host: &str) -> Option<Arc<Service>> {
        match self.get(&Query::Known(scope.clone(), host.into())) {
            Value::Service(service) => service,
            _ => None,
        }
    }

    pub(crate) fn by_gateway(&mut self, scope: &ScopeKey) -> Arc<ByGateway> {
        match self.get(&Query::ByGateway(scope.clone())) {
            Value::ByGateway(all) => all,
            _ => Arc::default(),
        }
    }

    pub(crate) fn bound(&mut self, scope: &ScopeKey, gateway: &Arc<str>) -> Arc<Vec<Ready>> {
        match self.get(&Query::Bound(scope.clone(), gateway.clone())) {
            Value::Bound(bound) => bound,
            _ => Arc::default(),
        }
    }

    pub(crate) fn bound_routes(&mut self, question: &Arc<bound::Question>) -> Arc<Vec<bound::Served>> {
        match self.get(&Query::BoundRoutes(question.clone())) {
            Value::BoundRoutes(bound) => bound,
            _ => Arc::default(),
        }
    }

    pub(crate) fn routes(&mut self, question: made::Question) -> Arc<Made> {
        match self.get(&Query::Routes(Arc::new(question))) {
            Value::Routes(made) => made,
            _ => Arc::default(),
        }
    }

    pub(crate) fn resource(&mut self, query: &Query) -> Option<Arc<Resource>> {
        match self.get(query) {
            Value::Resource(resource) => resource,
            _ => None,
        }
    }

    pub(crate) fn targets(&mut self, class: ClassId) -> Arc<Vec<Target>> {
        match self.get(&Query::Targets(class)) {
            Value::Targets(targets) => targets,
            _ => Arc::default(),
        }
    }

    /// What the listeners of a class have in common; none for an unknown class.
    pub(crate) fn common(&mut self, class: ClassId) -> Option<Arc<Common>> {
        match self.get(&Query::Common(class)) {
            Value::Common(common) => common,
            _ => None,
        }
    }

    pub(crate) fn bytes(&mut self, query: &Query) -> Bytes {
        match self.get(query) {
            Value::Bytes(bytes) => bytes,
            _ => Bytes::new(),
        }
    }

    pub(crate) fn socket(&mut self, question: server_tls::Question) -> Option<Arc<Socket>> {
        match self.get(&Query::Socket(Arc::new(question))) {
            Value::Socket(socket) => socket,
            _ => None,
        }
    }

    pub(crate) fn chain(&mut self, query: &Query) -> Option<Arc<Finished>> {
        match self.get(query) {
            Value::Chain(chain) => chain,
            _ => None,
        }
    }

    pub(crate) fn chains(&mut self, query: &Query) -> Arc<Vec<Arc<Finished>>> {
        match self.get(query) {
            Value::Chains(chains) => chains,
            _ => Arc::default(),
        }
    }

    pub(crate) fn sensitivity(&mut self) -> Arc<Sensitivity> {
        match self.get(&Query::Sensitivity) {
            Value::Sensitivity(sensitivity) => sensitivity,
            _ => Arc::default(),
        }
    }

    /// Whether there is any DestinationRule.
    pub(crate) fn has_rules(&mut self) -> bool {
        matches!(self.get(&Query::HasRules), Value::Flag(true))
    }

    /// Whether a route or a rule depends on labels of clients that see this.
    pub(crate) fn selects_by_labels(&mut self, key: ScopeKey) -> bool {
        matches!(self.get(&Query::SelectsByLabels(key)), Value::Flag(true))
    }

    pub(crate) fn host_rules(&mut self, host: &Arc<str>) -> Arc<HostRules> {
        static NONE: LazyLock<Arc<HostRules>> = LazyLock::new(Arc::default);
        // Many meshes have no rule; there, none is looked for host by host.
        if !self.has_rules() {
            return NONE.clone();
        }
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

    /// A set that is the answer to this question, too, whatever is in it: see [`Cx::forward`].
    pub(crate) fn same_set(&mut self, query: &Query) -> Arc<ResourceSet> {
        match self.forward(query) {
            Value::Set(set) => set,
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
