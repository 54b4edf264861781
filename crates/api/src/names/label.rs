//! Label keys and values.

/// On namespaces and pods: the revision (or tag) that injects; on objects: the revision that reads or owns them.
pub const REVISION: &str = "istio.io/rev";
/// On webhook configurations and services: the tag they stand for.
pub const TAG: &str = "istio.io/tag";
/// On namespaces: `enabled` or `disabled` for the default revision.
pub const NAMESPACE_INJECTION: &str = "istio-injection";
/// Value of [`NAMESPACE_INJECTION`] that switches injection on.
pub const INJECTION_ENABLED: &str = "enabled";
/// Value of [`NAMESPACE_INJECTION`] that switches injection off.
pub const INJECTION_DISABLED: &str = "disabled";
/// On pods: `true` or `false`, wins over the namespace. Also read as an annotation.
pub const SIDECAR_INJECT: &str = "sidecar.istio.io/inject";
/// Name of a namespace, set by Kubernetes.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// `istio` on istiod pods is `pilot`, on gateway pods the gateway's selector.
pub const ISTIO: &str = "istio";
/// Application.
pub const APP: &str = "app";
/// Version of an application.
pub const VERSION: &str = "version";
/// Release that rendered an object; always `istio` when `istioctl` did.
pub const RELEASE: &str = "release";
/// Recommended Kubernetes label: name of the application.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Recommended Kubernetes label: version of the application.
pub const APP_VERSION: &str = "app.kubernetes.io/version";
/// Recommended Kubernetes label: instance of the application.
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// Recommended Kubernetes label: the tool that manages the object.
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The chart, with its version, that Helm made an object with.
pub const HELM_CHART: &str = "helm.sh/chart";
/// Recommended Kubernetes label: the application it is part of.
pub const APP_PART_OF: &str = "app.kubernetes.io/part-of";
/// On objects an installer wrote: the component they belong to (`Pilot`, `IngressGateways`, …).
pub const OPERATOR_COMPONENT: &str = "operator.istio.io/component";
/// On objects an installer wrote: `Reconcile`.
pub const OPERATOR_MANAGED: &str = "operator.istio.io/managed";
/// On objects an installer wrote: its version.
pub const OPERATOR_VERSION: &str = "operator.istio.io/version";
/// On objects an installer wrote: name of the IstioOperator they came from.
pub const OWNING_RESOURCE: &str = "install.operator.istio.io/owning-resource";
/// On objects an installer wrote: namespace of the IstioOperator they came from.
pub const OWNING_RESOURCE_NAMESPACE: &str = "install.operator.istio.io/owning-resource-namespace";
/// On objects an installer wrote: kind of the resource they came from.
pub const OWNING_RESOURCE_KIND: &str = "install.operator.istio.io/owning-resource-kind";
/// On pods with a proxy: `istio` when they accept mutual TLS.
pub const TLS_MODE: &str = "security.istio.io/tlsMode";
/// Value of [`TLS_MODE`] for a workload that accepts mutual TLS.
pub const TLS_MODE_ISTIO: &str = "istio";
/// Name under which telemetry groups workloads.
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// Revision of the workload under which telemetry groups workloads.
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// Name of the workload.
pub const WORKLOAD_NAME: &str = "service.istio.io/workload-name";
/// Network that a pod, namespace or gateway is in.
pub const NETWORK: &str = "topology.istio.io/network";
/// Cluster that an object is in.
pub const CLUSTER: &str = "topology.istio.io/cluster";
/// Sub-zone that a node is in.
pub const SUBZONE: &str = "topology.istio.io/subzone";
/// Region that a node is in.
pub const REGION: &str = "topology.kubernetes.io/region";
/// Zone that a node is in.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// Older key of [`REGION`].
pub const REGION_BETA: &str = "failure-domain.beta.kubernetes.io/region";
/// Older key of [`ZONE`].
pub const ZONE_BETA: &str = "failure-domain.beta.kubernetes.io/zone";
/// Host name of a node.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// Locality of a workload that has no node, `region.zone.subzone` or with slashes.
pub const LOCALITY: &str = "istio-locality";
/// On endpoints' pods: endpoint is leaving.
pub const DRAINING: &str = "istio.io/draining";
/// On EndpointSlices: service they belong to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// On ConfigMaps that hold mesh certificates.
pub const CONFIG: &str = "istio.io/config";
/// On namespaces and pods: `ambient`, `none`.
pub const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// On namespaces, services and pods: the waypoint to use.
pub const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// On objects that a Gateway owns: controller that made them.
pub const GATEWAY_MANAGED: &str = "gateway.istio.io/managed";
/// On objects that a Gateway owns: the Gateway's name.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// On Secrets: they hold the kubeconfig of a further cluster.
pub const MULTI_CLUSTER: &str = "istio/multiCluster";
