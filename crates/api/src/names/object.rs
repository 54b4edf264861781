//! Names of the objects that a control plane, its installer and its agents read and write.
//!
//! A revision suffix is written `<-rev>`: nothing for the unnamed revision (empty or `default`), else `-<rev>`
//! (revisions.md, notation). Functions here apply it.

use super::DEFAULT_REVISION;

/// `name` for the unnamed revision, `name-<rev>` for any other.
pub fn with_revision(name: &str, revision: &str) -> String {
    if revision.is_empty() || revision == DEFAULT_REVISION {
        name.to_owned()
    } else {
        format!("{name}-{revision}")
    }
}

/// Deployment, Service, ServiceAccount and PodDisruptionBudget of istiod: `istiod<-rev>`.
pub fn istiod(revision: &str) -> String {
    with_revision("istiod", revision)
}

/// ConfigMap with the mesh configuration: `istio<-rev>`; keys [`MESH_KEY`] and [`MESH_NETWORKS_KEY`].
pub fn mesh_config_map(revision: &str) -> String {
    with_revision("istio", revision)
}

/// ConfigMap of the injector, and MutatingWebhookConfiguration of the revision: `istio-sidecar-injector<-rev>`.
pub fn sidecar_injector(revision: &str) -> String {
    with_revision("istio-sidecar-injector", revision)
}

/// ConfigMap with the values a revision was installed with: `values<-rev>`.
pub fn values_config_map(revision: &str) -> String {
    with_revision("values", revision)
}

/// ValidatingWebhookConfiguration of a revision: `istio-validator<-rev>-<namespace>`.
pub fn validator(revision: &str, namespace: &str) -> String {
    format!("{}-{namespace}", with_revision("istio-validator", revision))
}

/// MutatingWebhookConfiguration of a tag: `istio-revision-tag-<tag>`.
pub fn tag_webhook(tag: &str) -> String {
    format!("{TAG_WEBHOOK_PREFIX}{tag}")
}

/// Service of a tag: `istiod-revision-tag-<tag>`.
pub fn tag_service(tag: &str) -> String {
    format!("istiod-revision-tag-{tag}")
}

/// Prefix of [`tag_webhook`].
pub const TAG_WEBHOOK_PREFIX: &str = "istio-revision-tag-";
/// MutatingWebhookConfiguration whose label `istio.io/rev` says which revision is the default.
pub const DEFAULT_TAG_WEBHOOK: &str = "istio-revision-tag-default";
/// ValidatingWebhookConfiguration of the default revision.
pub const DEFAULT_VALIDATOR: &str = "istiod-default-validator";
/// Webhook name in [`DEFAULT_VALIDATOR`].
pub const DEFAULT_VALIDATION_WEBHOOK: &str = "validation.istio.io";
/// Webhook name in [`validator`].
pub const REVISION_VALIDATION_WEBHOOK: &str = "rev.validation.istio.io";
/// Suffix of the names of the injection webhooks (`rev.namespace.…`, `rev.object.…`, `namespace.…`, `object.…`).
pub const INJECTION_WEBHOOK_SUFFIX: &str = "sidecar-injector.istio.io";
/// Key of the mesh configuration in its ConfigMap.
pub const MESH_KEY: &str = "mesh";
/// Key of the mesh networks in the ConfigMap of the mesh configuration.
pub const MESH_NETWORKS_KEY: &str = "meshNetworks";
/// Key of the templates in the injector's ConfigMap.
pub const INJECTOR_CONFIG_KEY: &str = "config";
/// Key of the chart values in the injector's ConfigMap.
pub const INJECTOR_VALUES_KEY: &str = "values";

/// Secret with the self-signed root that all revisions share.
pub const CA_SECRET: &str = "istio-ca-secret";
/// Secret with a root or intermediate that the user brings.
pub const CACERTS_SECRET: &str = "cacerts";
/// Secret with a serving certificate of istiod that the user brings.
pub const ISTIOD_TLS_SECRET: &str = "istiod-tls";
/// ConfigMap with the mesh's root certificate, in every namespace.
pub const ROOT_CERT_CONFIG_MAP: &str = "istio-ca-root-cert";
/// Key of the certificate in [`ROOT_CERT_CONFIG_MAP`].
pub const ROOT_CERT_KEY: &str = "root-cert.pem";
/// ConfigMap with the revocation list, in every namespace, if there is one.
pub const CRL_CONFIG_MAP: &str = "istio-ca-crl";

/// Lease names, shared by all revisions (control-plane.md §1.2).
pub mod lease {
    /// Who writes [`super::ROOT_CERT_CONFIG_MAP`] into namespaces.
    pub const NAMESPACE_CONTROLLER: &str = "istio-namespace-controller-election";
    /// Who writes the status of Ingress objects.
    pub const INGRESS: &str = "istio-leader";
    /// Who writes the status of Gateway API objects.
    pub const GATEWAY_STATUS: &str = "istio-gateway-status-leader";
    /// Who writes the status of Istio objects.
    pub const STATUS: &str = "istio-status-leader";
    /// Who makes deployments for Gateway API gateways.
    pub const GATEWAY_DEPLOYMENT: &str = "istio-gateway-deployment";
    /// Who allocates addresses for ServiceEntries.
    pub const IP_AUTOALLOCATE: &str = "istio-ip-autoallocate";
    /// Who analyses the cluster and writes the messages into status.
    pub const ANALYZE: &str = "istio-analyze-leader";
    /// Who removes the taint of nodes whose CNI plugin is ready.
    pub const NODE_UNTAINT: &str = "istio-node-untaint";
    /// Who keeps ServiceExports.
    pub const SERVICE_EXPORT: &str = "istio-serviceexport-controller-election";
    /// Who keeps ClusterTrustBundles.
    pub const CLUSTER_TRUST_BUNDLE: &str = "istio-clustertrustbundle-controller-election";
}

/// Default ingress gateway of the profiles.
pub const INGRESS_GATEWAY: &str = "istio-ingressgateway";
/// Default egress gateway of the profiles.
pub const EGRESS_GATEWAY: &str = "istio-egressgateway";
