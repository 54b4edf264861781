//! IstioOperator: the document that describes an installation (revisions.md §1.5).
//!
//! It is read from files, merged as a tree and never stored in the cluster, so it is described by the shape of its
//! tree instead of Rust types. The shape is strict: a field it does not know is a mistake of the user.

/// `apiVersion` of an IstioOperator.
pub const API_VERSION: &str = "install.istio.io/v1alpha1";
/// `kind` of an IstioOperator.
pub const KIND: &str = "IstioOperator";

/// What a part of the document may look like.
#[derive(Debug)]
pub enum Shape {
    /// Anything; validated elsewhere or by Kubernetes.
    Any,
    /// Text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Whole,
    /// A whole number or a percentage.
    Amount,
    /// Any single value; numbers and flags are read as text.
    Scalar,
    /// A map with keys of the user's choice.
    Map(&'static Shape),
    /// A list.
    List(&'static Shape),
    /// A map with these fields and no others.
    Fields(&'static [(&'static str, Shape)]),
}

use Shape::{Amount, Any, Fields, Flag, List, Map, Scalar, Text, Whole};

/// The whole document.
pub static OPERATOR: Shape = Fields(&[
    ("apiVersion", Text),
    ("kind", Text),
    ("metadata", Any),
    ("spec", Fields(SPEC)),
    ("status", Any),
]);

static SPEC: &[(&str, Shape)] = &[
    ("profile", Text),
    ("installPackagePath", Text),
    ("hub", Text),
    ("tag", Scalar),
    ("namespace", Text),
    ("revision", Scalar),
    ("compatibilityVersion", Scalar),
    ("meshConfig", Map(&Any)),
    ("components", Fields(COMPONENTS)),
    ("values", Map(&Any)),
    ("unvalidatedValues", Map(&Any)),
];

static COMPONENTS: &[(&str, Shape)] = &[
    ("base", Fields(COMPONENT)),
    ("pilot", Fields(COMPONENT)),
    ("cni", Fields(COMPONENT)),
    ("ztunnel", Fields(COMPONENT)),
    ("istiodRemote", Fields(COMPONENT)),
    ("ingressGateways", List(&Fields(GATEWAY))),
    ("egressGateways", List(&Fields(GATEWAY))),
];

static COMPONENT: &[(&str, Shape)] = &[
    ("enabled", Flag),
    ("namespace", Text),
    ("hub", Text),
    ("tag", Scalar),
    ("k8s", Fields(K8S)),
];

static GATEWAY: &[(&str, Shape)] = &[
    ("name", Text),
    ("label", Map(&Text)),
    ("enabled", Flag),
    ("namespace", Text),
    ("hub", Text),
    ("tag", Scalar),
    ("k8s", Fields(K8S)),
];

static K8S: &[(&str, Shape)] = &[
    (
        "affinity",
        Fields(&[("nodeAffinity", Any), ("podAffinity", Any), ("podAntiAffinity", Any)]),
    ),
    (
        "env",
        List(&Fields(&[("name", Text), ("value", Scalar), ("valueFrom", Any)])),
    ),
    (
        "hpaSpec",
        Fields(&[
            ("scaleTargetRef", Any),
            ("minReplicas", Whole),
            ("maxReplicas", Whole),
            ("metrics", Any),
            ("behavior", Any),
        ]),
    ),
    ("imagePullPolicy", Text),
    ("nodeSelector", Map(&Scalar)),
    (
        "podDisruptionBudget",
        Fields(&[
            ("minAvailable", Amount),
            ("maxUnavailable", Amount),
            ("selector", Any),
            ("unhealthyPodEvictionPolicy", Text),
        ]),
    ),
    ("podAnnotations", Map(&Scalar)),
    ("priorityClassName", Text),
    ("readinessProbe", Any),
    ("replicaCount", Whole),
    (
        "resources",
        Fields(&[("limits", Map(&Scalar)), ("requests", Map(&Scalar)), ("claims", Any)]),
    ),
    ("service", Any),
    ("strategy", Fields(&[("type", Text), ("rollingUpdate", Any)])),
    ("tolerations", List(&Fields(TOLERATION))),
    ("serviceAnnotations", Map(&Scalar)),
    ("securityContext", Any),
    ("volumes", List(&Any)),
    ("volumeMounts", List(&Any)),
    (
        "overlays",
        List(&Fields(&[
            ("apiVersion", Text),
            ("kind", Text),
            ("name", Text),
            ("patches", List(&Fields(&[("path", Text), ("value", Any)]))),
        ])),
    ),
];

static SELECTORS: Shape = List(&Fields(&[
    ("matchLabels", Map(&Text)),
    (
        "matchExpressions",
        List(&Fields(&[("key", Text), ("operator", Text), ("values", List(&Scalar))])),
    ),
]));
static TOLERATIONS: Shape = List(&Fields(TOLERATION));
static AFFINITY: Shape = Fields(&[("nodeAffinity", Any), ("podAffinity", Any), ("podAntiAffinity", Any)]);
static SECCOMP: Shape = Fields(&[("type", Text), ("localhostProfile", Text)]);
static SPREADING: Shape = List(&Fields(&[
    ("maxSkew", Whole),
    ("topologyKey", Text),
    ("whenUnsatisfiable", Text),
    ("labelSelector", Any),
    ("minDomains", Whole),
    ("nodeAffinityPolicy", Text),
    ("nodeTaintsPolicy", Text),
    ("matchLabelKeys", List(&Text)),
]));
static TOLERATION: &[(&str, Shape)] = &[
    ("key", Text),
    ("operator", Text),
    ("value", Text),
    ("effect", Text),
    ("tolerationSeconds", Whole),
];

/// Pieces of Kubernetes objects in the values, by their path there.
pub static SNIPPETS: [(&str, &Shape); 17] = [
    ("global.defaultTolerations", &TOLERATIONS),
    ("global.proxy.seccompProfile", &SECCOMP),
    (
        "global.proxy.lifecycle",
        &Fields(&[("postStart", Any), ("preStop", Any), ("stopSignal", Text)]),
    ),
    ("global.waypoint.affinity", &AFFINITY),
    ("global.waypoint.topologySpreadConstraints", &SPREADING),
    ("global.waypoint.toleration", &TOLERATIONS),
    ("gateways.istio-ingressgateway.tolerations", &TOLERATIONS),
    ("gateways.istio-egressgateway.tolerations", &TOLERATIONS),
    ("pilot.tolerations", &TOLERATIONS),
    ("pilot.affinity", &AFFINITY),
    ("pilot.seccompProfile", &SECCOMP),
    ("pilot.topologySpreadConstraints", &SPREADING),
    (
        "pilot.volumeMounts",
        &List(&Fields(&[
            ("name", Text),
            ("readOnly", Flag),
            ("recursiveReadOnly", Text),
            ("mountPath", Text),
            ("subPath", Text),
            ("mountPropagation", Text),
            ("subPathExpr", Text),
        ])),
    ),
    ("sidecarInjectorWebhook.neverInjectSelector", &SELECTORS),
    ("sidecarInjectorWebhook.alwaysInjectSelector", &SELECTORS),
    ("cni.affinity", &AFFINITY),
    ("cni.seccompProfile", &SECCOMP),
];

/// The mesh configuration, one level deep: what else it holds is checked by who reads it.
pub static MESH_CONFIG: Shape = Fields(&[
    ("accessLogEncoding", Any),
    ("accessLogFile", Text),
    ("accessLogFormat", Text),
    ("ca", Any),
    ("caCertificates", List(&Any)),
    ("certificates", List(&Any)),
    ("configSources", List(&Any)),
    ("connectTimeout", Any),
    ("defaultConfig", Fields(&crate::proxy_config::SHAPES)),
    ("defaultDestinationRuleExportTo", List(&Any)),
    ("defaultHttpRetryPolicy", Any),
    ("defaultInboundHttpRetryPolicy", Any),
    ("defaultProviders", Any),
    ("defaultServiceExportTo", List(&Any)),
    ("defaultTrafficPolicy", Any),
    ("defaultVirtualServiceExportTo", List(&Any)),
    ("disableEnvoyListenerLog", Flag),
    ("discoverySelectors", List(&Any)),
    ("dnsRefreshRate", Any),
    ("enableAutoMtls", Flag),
    ("enableEnvoyAccessLogService", Flag),
    ("enablePrometheusMerge", Flag),
    ("enableTracing", Flag),
    ("extensionProviders", List(&Any)),
    ("h2UpgradePolicy", Any),
    ("hboneIdleTimeout", Any),
    ("inboundClusterStatName", Text),
    ("inboundTrafficPolicy", Any),
    ("ingressClass", Text),
    ("ingressControllerMode", Any),
    ("ingressSelector", Text),
    ("ingressService", Text),
    ("localityLbSetting", Any),
    ("meshMTLS", Any),
    ("outboundClusterStatName", Text),
    ("outboundTrafficPolicy", Any),
    ("pathNormalization", Any),
    ("protocolDetectionTimeout", Any),
    ("proxyHttpPort", Any),
    ("proxyInboundListenPort", Any),
    ("proxyListenPort", Any),
    ("rootNamespace", Text),
    ("serviceEntryVisibility", Any),
    ("serviceScopeConfigs", List(&Any)),
    ("serviceSettings", List(&Any)),
    ("tcpKeepalive", Any),
    ("tlsDefaults", Any),
    ("trustDomain", Text),
    ("trustDomainAliases", List(&Any)),
    ("verifyCertificateAtClient", Flag),
    ("zoneAwareLbSetting", Any),
]);
