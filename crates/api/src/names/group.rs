//! API groups of Istio's custom resources.

/// VirtualService, DestinationRule, Gateway, ServiceEntry, Sidecar, EnvoyFilter, WorkloadEntry, WorkloadGroup,
/// ProxyConfig.
pub const NETWORKING: &str = "networking.istio.io";
/// PeerAuthentication, RequestAuthentication, AuthorizationPolicy.
pub const SECURITY: &str = "security.istio.io";
/// Telemetry.
pub const TELEMETRY: &str = "telemetry.istio.io";
/// WasmPlugin, TrafficExtension.
pub const EXTENSIONS: &str = "extensions.istio.io";
/// IstioOperator, which is read from files and never stored in the cluster.
pub const INSTALL: &str = "install.istio.io";
