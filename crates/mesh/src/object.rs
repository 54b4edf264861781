//! Objects as they arrive, reduced to what the mesh reads.

mod core;
mod parse;

pub use self::core::{
    ConfigMap, ContainerPort, EndpointSlice, Namespace, Node, Pod, Secret, Service, SliceEndpoint, SlicePort,
    TargetPort,
};
pub use parse::ObjectError;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{extensions, networking, security, telemetry};
use jiff::Timestamp;

use crate::key::{Key, Kind};

/// What every object has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Namespace; empty for objects of the cluster.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// When it was created; objects are ordered by it.
    pub created: Option<Timestamp>,
    /// Generation of its spec.
    pub generation: i64,
}

impl Meta {
    /// Order of objects that compete: older first, then by name and namespace.
    pub fn age_order(&self, other: &Self) -> std::cmp::Ordering {
        self.created
            .cmp(&other.created)
            .then_with(|| self.name.cmp(&other.name))
            .then_with(|| self.namespace.cmp(&other.namespace))
    }
}

/// One of Istio's objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Config<S> {
    /// Name, labels, age.
    pub meta: Meta,
    /// Its content.
    pub spec: S,
    /// Its status, where the mesh reads it.
    pub status: Option<serde_json::Value>,
}

/// An object of a kind that the mesh reads.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Object {
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    Secret(Arc<Secret>),
    ConfigMap(Arc<ConfigMap>),
    VirtualService(Arc<Config<networking::VirtualService>>),
    DestinationRule(Arc<Config<networking::DestinationRule>>),
    Gateway(Arc<Config<networking::Gateway>>),
    ServiceEntry(Arc<Config<networking::ServiceEntry>>),
    WorkloadEntry(Arc<Config<networking::WorkloadEntry>>),
    Sidecar(Arc<Config<networking::Sidecar>>),
    EnvoyFilter(Arc<Config<networking::EnvoyFilter>>),
    ProxyConfig(Arc<Config<networking::ProxyConfig>>),
    PeerAuthentication(Arc<Config<security::PeerAuthentication>>),
    RequestAuthentication(Arc<Config<security::RequestAuthentication>>),
    AuthorizationPolicy(Arc<Config<security::AuthorizationPolicy>>),
    Telemetry(Arc<Config<telemetry::Telemetry>>),
    WasmPlugin(Arc<Config<extensions::WasmPlugin>>),
}

/// Runs one expression for whatever object it is.
macro_rules! each_object {
    ($object:expr, $o:ident => $e:expr) => {
        match $object {
            Object::Namespace($o) => $e,
            Object::Node($o) => $e,
            Object::Pod($o) => $e,
            Object::Service($o) => $e,
            Object::EndpointSlice($o) => $e,
            Object::Secret($o) => $e,
            Object::ConfigMap($o) => $e,
            Object::VirtualService($o) => $e,
            Object::DestinationRule($o) => $e,
            Object::Gateway($o) => $e,
            Object::ServiceEntry($o) => $e,
            Object::WorkloadEntry($o) => $e,
            Object::Sidecar($o) => $e,
            Object::EnvoyFilter($o) => $e,
            Object::ProxyConfig($o) => $e,
            Object::PeerAuthentication($o) => $e,
            Object::RequestAuthentication($o) => $e,
            Object::AuthorizationPolicy($o) => $e,
            Object::Telemetry($o) => $e,
            Object::WasmPlugin($o) => $e,
        }
    };
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Secret(_) => Kind::Secret,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::VirtualService(_) => Kind::VirtualService,
            Self::DestinationRule(_) => Kind::DestinationRule,
            Self::Gateway(_) => Kind::Gateway,
            Self::ServiceEntry(_) => Kind::ServiceEntry,
            Self::WorkloadEntry(_) => Kind::WorkloadEntry,
            Self::Sidecar(_) => Kind::Sidecar,
            Self::EnvoyFilter(_) => Kind::EnvoyFilter,
            Self::ProxyConfig(_) => Kind::ProxyConfig,
            Self::PeerAuthentication(_) => Kind::PeerAuthentication,
            Self::RequestAuthentication(_) => Kind::RequestAuthentication,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::Telemetry(_) => Kind::Telemetry,
            Self::WasmPlugin(_) => Kind::WasmPlugin,
        }
    }

    /// Its name, labels, age.
    pub fn meta(&self) -> &Meta {
        each_object!(self, o => &o.meta)
    }

    /// Its key.
    pub fn key(&self) -> Key {
        let meta = self.meta();
        Key {
            kind: self.kind(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
        }
    }
}
