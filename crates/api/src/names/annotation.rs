//! Annotation keys.

/// On injected pods: what was injected, as JSON.
pub const STATUS: &str = "sidecar.istio.io/status";
/// On injected pods: the revision that injected (also a label key).
pub const REVISION: &str = "istio.io/rev";
/// On pods: `true` or `false`; the label of the same name wins.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// On pods: comma-separated names of injection templates.
pub const TEMPLATES: &str = "inject.istio.io/templates";
/// On pods: ProxyConfig in YAML, merged over the mesh's.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// On injected pods: the containers as the user wrote them, for re-injection.
pub const PROXY_OVERRIDES: &str = "proxy.istio.io/overrides";
/// On pods: image of the proxy.
pub const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
/// On pods: flavour of the proxy's image (`distroless`, `debug`).
pub const PROXY_IMAGE_TYPE: &str = "sidecar.istio.io/proxyImageType";
/// On pods: `REDIRECT`, `TPROXY` or `NONE`.
pub const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";
/// On pods: whether HTTP probes go through the agent.
pub const REWRITE_PROBES: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
/// On pods: name of a ConfigMap with a bootstrap template.
pub const BOOTSTRAP_OVERRIDE: &str = "sidecar.istio.io/bootstrapOverride";
/// On pods: port of the agent's status server.
pub const STATUS_PORT: &str = "status.sidecar.istio.io/port";
/// On pods: requested CPU of the proxy.
pub const PROXY_CPU: &str = "sidecar.istio.io/proxyCPU";
/// On pods: requested memory of the proxy.
pub const PROXY_MEMORY: &str = "sidecar.istio.io/proxyMemory";
/// On pods: CPU limit of the proxy.
pub const PROXY_CPU_LIMIT: &str = "sidecar.istio.io/proxyCPULimit";
/// On pods: memory limit of the proxy.
pub const PROXY_MEMORY_LIMIT: &str = "sidecar.istio.io/proxyMemoryLimit";
/// On pods: log level of the proxy.
pub const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
/// On pods: log level per component of the proxy.
pub const COMPONENT_LOG_LEVEL: &str = "sidecar.istio.io/componentLogLevel";
/// On pods: inbound ports to redirect (`*` for all).
pub const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
/// On pods: inbound ports not to redirect.
pub const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
/// On pods: outbound ports to redirect whatever their address.
pub const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
/// On pods: outbound ports not to redirect.
pub const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
/// On pods: outbound ranges to redirect (`*` for all).
pub const INCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
/// On pods: outbound ranges not to redirect.
pub const EXCLUDE_OUTBOUND_RANGES: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
/// On pods: interfaces whose traffic counts as outbound.
pub const KUBEVIRT_INTERFACES: &str = "traffic.sidecar.istio.io/kubevirtInterfaces";
/// On pods: whether the agent merges the application's metrics into its own.
pub const MERGE_METRICS: &str = "prometheus.istio.io/merge-metrics";
/// On pods: whether Prometheus scrapes.
pub const PROMETHEUS_SCRAPE: &str = "prometheus.io/scrape";
/// On pods: port that Prometheus scrapes.
pub const PROMETHEUS_PORT: &str = "prometheus.io/port";
/// On pods: path that Prometheus scrapes.
pub const PROMETHEUS_PATH: &str = "prometheus.io/path";
/// On services: namespaces that see them (`.`, `*`, `~` or names).
pub const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// On services: how traffic is spread over localities.
pub const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// On services: service accounts that may serve them beside those of their pods.
pub const CANONICAL_SERVICE_ACCOUNTS: &str = "alpha.istio.io/canonical-serviceaccounts";
/// On services: Kubernetes service accounts that may serve them beside those of their pods.
pub const KUBERNETES_SERVICE_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";
/// On AuthorizationPolicies: only log what would be decided.
pub const DRY_RUN: &str = "istio.io/dry-run";
/// On leases of leader election: the revision of the holder.
pub const LEASE_HOLDER_KEY: &str = "leader.istio.io/holder-key";
/// On ConfigMaps of leader election: the whole record.
pub const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// On pods: container that kubectl takes by default.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// On pods: container whose logs kubectl shows by default.
pub const DEFAULT_LOGS_CONTAINER: &str = "kubectl.kubernetes.io/default-logs-container";
/// On pod templates: when `kubectl rollout restart` last ran.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// On IstioOperators: the chart's version that was installed.
pub const CHART_OWNER: &str = "install.operator.istio.io/chart-owner";
