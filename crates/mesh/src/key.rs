//! Names of things: objects as they arrive, services as they are known, and what a translation may depend on.

use std::fmt;
use std::sync::Arc;

/// Kinds of objects that the mesh reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    Secret,
    ConfigMap,
    VirtualService,
    DestinationRule,
    Gateway,
    ServiceEntry,
    WorkloadEntry,
    Sidecar,
    EnvoyFilter,
    ProxyConfig,
    PeerAuthentication,
    RequestAuthentication,
    AuthorizationPolicy,
    Telemetry,
    WasmPlugin,
}

impl Kind {
    /// API group; empty for the core group.
    pub fn group(self) -> &'static str {
        use api::names::group;
        match self {
            Self::Namespace | Self::Node | Self::Pod | Self::Service | Self::Secret | Self::ConfigMap => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::VirtualService
            | Self::DestinationRule
            | Self::Gateway
            | Self::ServiceEntry
            | Self::WorkloadEntry
            | Self::Sidecar
            | Self::EnvoyFilter
            | Self::ProxyConfig => group::NETWORKING,
            Self::PeerAuthentication | Self::RequestAuthentication | Self::AuthorizationPolicy => group::SECURITY,
            Self::Telemetry => group::TELEMETRY,
            Self::WasmPlugin => group::EXTENSIONS,
        }
    }

    /// Its name, as objects have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::Gateway => "Gateway",
            Self::ServiceEntry => "ServiceEntry",
            Self::WorkloadEntry => "WorkloadEntry",
            Self::Sidecar => "Sidecar",
            Self::EnvoyFilter => "EnvoyFilter",
            Self::ProxyConfig => "ProxyConfig",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::RequestAuthentication => "RequestAuthentication",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::Telemetry => "Telemetry",
            Self::WasmPlugin => "WasmPlugin",
        }
    }

    /// All kinds.
    pub const ALL: [Kind; 20] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
        Self::ConfigMap,
        Self::VirtualService,
        Self::DestinationRule,
        Self::Gateway,
        Self::ServiceEntry,
        Self::WorkloadEntry,
        Self::Sidecar,
        Self::EnvoyFilter,
        Self::ProxyConfig,
        Self::PeerAuthentication,
        Self::RequestAuthentication,
        Self::AuthorizationPolicy,
        Self::Telemetry,
        Self::WasmPlugin,
    ];

    /// The kind of that group and name, if the mesh reads it.
    pub fn find(group: &str, kind: &str) -> Option<Kind> {
        Self::ALL.into_iter().find(|k| k.name() == kind && k.group() == group)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for objects of the cluster.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// A key.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Names one service of the mesh: a host, in the namespace that defines it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Host name.
    pub host: Arc<str>,
    /// Namespace of the defining object.
    pub namespace: Arc<str>,
}

impl ServiceKey {
    /// A key.
    pub fn new(host: &str, namespace: &str) -> Self {
        Self {
            host: host.into(),
            namespace: namespace.into(),
        }
    }
}

/// Something that a translation reads and that may change: the unit of invalidation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// The mesh configuration.
    Mesh,
    /// All services, without their endpoints.
    Services,
    /// A service without its endpoints.
    Service(ServiceKey),
    /// The endpoints of a service.
    Endpoints(ServiceKey),
    /// The identities under which a service's endpoints run, without the endpoints.
    Identities(ServiceKey),
    /// All objects of a kind.
    Kind(Kind),
    /// All objects of a kind in a namespace.
    InNamespace(Kind, Arc<str>),
    /// One secret.
    Secret(Arc<str>, Arc<str>),
}
