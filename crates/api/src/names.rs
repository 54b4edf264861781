//! Label, annotation and object names that Istio's users, tools and other control planes know.
//!
//! They are part of the interface: a drop-in control plane reads and writes exactly these. Rules about what they
//! *mean* live in the crate `revision`.

pub mod annotation;
pub mod group;
pub mod label;
pub mod object;

/// Name of the revision that installs without a name: an empty revision, written `default` in labels.
pub const DEFAULT_REVISION: &str = "default";
/// Namespace of the control plane and of mesh-wide configuration unless told otherwise.
pub const ROOT_NAMESPACE: &str = "istio-system";
/// DNS suffix of cluster services unless told otherwise.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// Cluster id of the cluster a control plane runs in unless told otherwise.
pub const CLUSTER_ID: &str = "Kubernetes";
/// Audience of the token with which a proxy authenticates to istiod.
pub const TOKEN_AUDIENCE: &str = "istio-ca";
/// Name of the sidecar's (and a gateway's) container.
pub const PROXY_CONTAINER: &str = "istio-proxy";
/// Name of the init container that sets up redirection.
pub const INIT_CONTAINER: &str = "istio-init";
/// Name of the init container that checks that the CNI plugin did its work.
pub const VALIDATION_CONTAINER: &str = "istio-validation";
/// User and group under which proxies run; redirection leaves their traffic alone.
pub const PROXY_UID: i64 = 1337;

/// Namespaces into which nothing is injected and the root certificate is not written, beside `kube-system`, into
/// which the root certificate *is* written (revisions.md §4).
pub const SYSTEM_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// Names of the status codes of gRPC, by their numbers.
pub const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Ports that istiod and proxies listen on.
pub mod port {
    /// istiod: discovery in plain text.
    pub const XDS_PLAINTEXT: u16 = 15010;
    /// istiod: discovery and certificate signing over TLS.
    pub const XDS_TLS: u16 = 15012;
    /// istiod: metrics, version and debug pages.
    pub const MONITORING: u16 = 15014;
    /// istiod: webhook server (443 of its Service).
    pub const WEBHOOK: u16 = 15017;
    /// istiod: readiness.
    pub const READY: u16 = 8080;
    /// Proxy: Envoy's administration interface, on the loopback address.
    pub const PROXY_ADMIN: u16 = 15000;
    /// Proxy: outbound traffic is redirected to it.
    pub const OUTBOUND: u16 = 15001;
    /// Proxy: inbound traffic is redirected to it.
    pub const INBOUND: u16 = 15006;
    /// Proxy: merged metrics and application probes.
    pub const AGENT_STATUS: u16 = 15020;
    /// Proxy: health check that Envoy itself serves.
    pub const HEALTH: u16 = 15021;
    /// Proxy: name resolution.
    pub const DNS: u16 = 15053;
    /// Proxy: Envoy's own metrics.
    pub const PROMETHEUS: u16 = 15090;
    /// Gateway between networks: mutual TLS passed through by server name.
    pub const EAST_WEST: u16 = 15443;
}
