//! Findings (revisions.md §7.4).

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Info,
    /// May go wrong.
    Warning,
    /// Is wrong.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "Info",
            Self::Warning => "Warning",
            Self::Error => "Error",
        })
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_lowercase().as_str() {
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            _ => Err(format!("{text:?} is no level: Info, Warning or Error")),
        }
    }
}

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// `IST0123`.
    pub code: &'static str,
    /// What it is called: `NamespaceMultipleInjectionLabels`.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
}

const fn code(code: &'static str, name: &'static str, level: Level) -> Code {
    Code { code, name, level }
}

impl Code {
    /// The code of that name, for example `IST0123`; letters may be small.
    pub fn find(code: &str) -> Option<&'static Self> {
        ALL.iter().find(|known| known.code.eq_ignore_ascii_case(code))
    }

    /// Where it is described: cause, example, remedy. Istio's codes mean what they mean there, so tools find Istio's
    /// page; those of our own have one in this repository only.
    pub fn documentation(&self) -> String {
        if self.code.starts_with("IST") {
            format!(
                "https://istio.io/latest/docs/reference/config/analysis/{}/",
                self.code.to_lowercase()
            )
        } else {
            self.page()
        }
    }

    /// Its page in this repository.
    pub fn page(&self) -> String {
        format!("docs/messages/{}.md", self.code)
    }
}

/// Something in use goes, or is gone.
pub const DEPRECATED: Code = code("IST0002", "Deprecated", Level::Warning);
/// Something that is referred to is not there.
pub const REFERENCED_RESOURCE_NOT_FOUND: Code = code("IST0101", "ReferencedResourceNotFound", Level::Error);
/// A namespace says nothing of injection.
pub const NAMESPACE_NOT_INJECTED: Code = code("IST0102", "NamespaceNotInjected", Level::Info);
/// A pod of an injected namespace has no proxy.
pub const POD_MISSING_PROXY: Code = code("IST0103", "PodMissingProxy", Level::Warning);
/// An object says what means nothing.
pub const SCHEMA_ERROR: Code = code("IST0106", "SchemaValidationError", Level::Error);
/// An annotation is on a kind that nobody reads it from.
pub const MISPLACED_ANNOTATION: Code = code("IST0107", "MisplacedAnnotation", Level::Warning);
/// An annotation looks like ours and is none.
pub const UNKNOWN_ANNOTATION: Code = code("IST0108", "UnknownAnnotation", Level::Warning);
/// Several VirtualServices are for one host inside the mesh.
pub const CONFLICTING_MESH_HOSTS: Code = code("IST0109", "ConflictingMeshGatewayVirtualServiceHosts", Level::Error);
/// Several Sidecars select one pod.
pub const CONFLICTING_SIDECARS: Code = code("IST0110", "ConflictingSidecarWorkloadSelectors", Level::Error);
/// A namespace has several Sidecars without a selector.
pub const SEVERAL_DEFAULT_SIDECARS: Code = code("IST0111", "MultipleSidecarsWithoutWorkloadSelectors", Level::Error);
/// A route leads to a service with several ports and names none.
pub const PORT_SELECTOR_REQUIRED: Code = code("IST0112", "VirtualServiceDestinationPortSelectorRequired", Level::Error);
/// Services give one port of a deployment several protocols.
pub const DEPLOYMENT_SEVERAL_PROTOCOLS: Code =
    code("IST0116", "DeploymentAssociatedToMultipleServices", Level::Warning);
/// A port's name says nothing of its protocol.
pub const PORT_NAME_CONVENTION: Code = code("IST0118", "PortNameIsNotUnderNamingConvention", Level::Info);
/// A namespace carries labels that contradict each other.
pub const NAMESPACE_MULTIPLE_INJECTION_LABELS: Code =
    code("IST0123", "NamespaceMultipleInjectionLabels", Level::Warning);
/// An annotation has a value that cannot be used.
pub const INVALID_ANNOTATION: Code = code("IST0125", "InvalidAnnotation", Level::Warning);
/// A network names a registry that is not known.
pub const UNKNOWN_SERVICE_REGISTRY: Code = code("IST0126", "UnknownMeshNetworksServiceRegistry", Level::Error);
/// A policy is for workloads that are not there.
pub const NO_MATCHING_WORKLOADS: Code = code("IST0127", "NoMatchingWorkloadsFound", Level::Warning);
/// A destination's TLS verifies nobody.
pub const NO_SERVER_VERIFICATION: Code = code(
    "IST0128",
    "NoServerCertificateVerificationDestinationLevel",
    Level::Warning,
);
/// A destination port's TLS verifies nobody.
pub const NO_SERVER_VERIFICATION_PORT: Code =
    code("IST0129", "NoServerCertificateVerificationPortLevel", Level::Warning);
/// A rule is never reached.
pub const UNREACHABLE_RULE: Code = code("IST0130", "VirtualServiceUnreachableRule", Level::Warning);
/// A match is part of an earlier one.
pub const INEFFECTIVE_MATCH: Code = code("IST0131", "VirtualServiceIneffectiveMatch", Level::Info);
/// A VirtualService has a host that its gateway does not.
pub const HOST_NOT_FOUND_IN_GATEWAY: Code = code("IST0132", "VirtualServiceHostNotFoundInGateway", Level::Warning);
/// An object says what is probably not meant.
pub const SCHEMA_WARNING: Code = code("IST0133", "SchemaWarning", Level::Warning);
/// A ServiceEntry needs addresses to be told apart.
pub const ADDRESSES_REQUIRED: Code = code("IST0134", "ServiceEntryAddressesRequired", Level::Warning);
/// An annotation goes.
pub const DEPRECATED_ANNOTATION: Code = code("IST0135", "DeprecatedAnnotation", Level::Info);
/// An annotation is still taking shape.
pub const ALPHA_ANNOTATION: Code = code("IST0136", "AlphaAnnotation", Level::Info);
/// Services lead to one target port from several ports.
pub const DEPLOYMENT_CONFLICTING_PORTS: Code = code("IST0137", "DeploymentConflictingPorts", Level::Warning);
/// Several gateways have one certificate.
pub const GATEWAY_DUPLICATE_CERTIFICATE: Code = code("IST0138", "GatewayDuplicateCertificate", Level::Warning);
/// A webhook points nowhere, or two answer for one pod.
pub const INVALID_WEBHOOK: Code = code("IST0139", "InvalidWebhook", Level::Error);
/// A subset that is chosen inside the mesh is not chosen at a gateway.
pub const INGRESS_ROUTE_RULES_NOT_AFFECTED: Code = code("IST0140", "IngressRouteRulesNotAffected", Level::Warning);
/// The user may not create what an installation consists of.
pub const INSUFFICIENT_PERMISSIONS: Code = code("IST0141", "InsufficientPermissions", Level::Error);
/// Kubernetes is too old.
pub const UNSUPPORTED_KUBERNETES_VERSION: Code = code("IST0142", "UnsupportedKubernetesVersion", Level::Error);
/// An application runs as the proxy's user, so its traffic is not captured.
pub const INVALID_APPLICATION_UID: Code = code("IST0144", "InvalidApplicationUID", Level::Warning);
/// Two gateways want the same port and host of the same proxies.
pub const CONFLICTING_GATEWAYS: Code = code("IST0145", "ConflictingGateways", Level::Error);
/// A deployment waits for injection that will not come.
pub const IMAGE_AUTO_WARNING: Code = code("IST0146", "ImageAutoWithoutInjectionWarning", Level::Warning);
/// A pod waits for injection that did not come.
pub const IMAGE_AUTO_ERROR: Code = code("IST0147", "ImageAutoWithoutInjectionError", Level::Error);
/// A namespace is injected because all are.
pub const INJECTED_BY_DEFAULT: Code = code("IST0148", "NamespaceInjectionEnabledByDefault", Level::Info);
/// Claims of a token are matched where no token is validated.
pub const JWT_CLAIM_WITHOUT_AUTHENTICATION: Code =
    code("IST0149", "JwtClaimBasedRoutingWithoutRequestAuthN", Level::Error);
/// A port of an ExternalName service is taken for plain TCP.
pub const EXTERNAL_NAME_PORT: Code = code("IST0150", "ExternalNameServiceTypeInvalidPortName", Level::Warning);
/// A patch depends on what others patched before.
pub const ENVOY_FILTER_RELATIVE: Code = code("IST0151", "EnvoyFilterUsesRelativeOperation", Level::Warning);
/// Something is replaced that cannot be.
pub const ENVOY_FILTER_REPLACE: Code = code("IST0152", "EnvoyFilterUsesReplaceOperationIncorrectly", Level::Error);
/// Something is added where nothing can be.
pub const ENVOY_FILTER_ADD: Code = code("IST0153", "EnvoyFilterUsesAddOperationIncorrectly", Level::Error);
/// Something is removed where nothing can be.
pub const ENVOY_FILTER_REMOVE: Code = code("IST0154", "EnvoyFilterUsesRemoveOperationIncorrectly", Level::Error);
/// A patch depends on what others patched for some versions only.
pub const ENVOY_FILTER_RELATIVE_VERSION: Code = code(
    "IST0155",
    "EnvoyFilterUsesRelativeOperationWithProxyVersion",
    Level::Warning,
);
/// A Gateway API definition does not serve a version that is needed.
pub const UNSUPPORTED_GATEWAY_API_VERSION: Code = code("IST0156", "UnsupportedGatewayAPIVersion", Level::Error);
/// A Telemetry names no provider, and there is none by default.
pub const INVALID_TELEMETRY_PROVIDER: Code = code("IST0157", "InvalidTelemetryProvider", Level::Warning);
/// Proxies run another image than would be injected now.
pub const PROXY_IMAGE_MISMATCH: Code = code("IST0158", "PodsIstioProxyImageMismatchInNamespace", Level::Warning);
/// Several Telemetries select one pod.
pub const CONFLICTING_TELEMETRIES: Code = code("IST0159", "ConflictingTelemetryWorkloadSelectors", Level::Error);
/// A namespace has several Telemetries without a selector.
pub const SEVERAL_DEFAULT_TELEMETRIES: Code =
    code("IST0160", "MultipleTelemetriesWithoutWorkloadSelectors", Level::Error);
/// A gateway's secret has no certificate.
pub const INVALID_GATEWAY_CREDENTIAL: Code = code("IST0161", "InvalidGatewayCredential", Level::Error);
/// A gateway listens on a port that its Service does not have.
pub const GATEWAY_PORT_NOT_ON_SERVICE: Code = code("IST0162", "GatewayPortNotDefinedOnService", Level::Warning);
/// A webhook of an external control plane has no usable host.
pub const INVALID_EXTERNAL_CONTROL_PLANE: Code = code("IST0163", "InvalidExternalControlPlaneConfig", Level::Warning);
/// A webhook of an external control plane has an IP address for a host.
pub const EXTERNAL_CONTROL_PLANE_ADDRESS: Code =
    code("IST0164", "ExternalControlPlaneAddressIsNotAHostname", Level::Info);
/// A VirtualService names a gateway that is generated and may change.
pub const REFERENCED_INTERNAL_GATEWAY: Code = code("IST0165", "ReferencedInternalGateway", Level::Warning);
/// A policy selects a gateway that it should refer to.
pub const INEFFECTIVE_SELECTOR: Code = code("IST0166", "IneffectiveSelector", Level::Warning);
/// A policy changes nothing.
pub const INEFFECTIVE_POLICY: Code = code("IST0167", "IneffectivePolicy", Level::Warning);
/// A Service is not the same in all clusters that have it.
pub const INCONSISTENT_SERVICE: Code = code("IST0170", "MultiClusterInconsistentService", Level::Warning);
/// A changed default of an older version that is upgraded from.
pub const UPDATE_INCOMPATIBILITY: Code = code("IST0169", "UpdateIncompatibility", Level::Warning);
/// A controller says that something is wrong.
pub const NEGATIVE_CONDITION: Code = code("IST0171", "NegativeConditionStatus", Level::Warning);
/// A Gateway API definition does not serve a version that will be needed.
pub const FUTURE_UNSUPPORTED_GATEWAY_API_VERSION: Code =
    code("IST0172", "FutureUnsupportedGatewayAPIVersion", Level::Warning);
/// A subset has no pods.
pub const SUBSET_SELECTS_NO_POD: Code = code("IST0173", "DestinationRuleSubsetNotSelectPods", Level::Error);
/// A rule is for a host that is no service.
pub const UNKNOWN_DESTINATION_RULE_HOST: Code = code("IST0174", "UnknownDestinationRuleHost", Level::Warning);
/// The control plane may fetch keys from anywhere.
pub const JWKS_FETCH_UNRESTRICTED: Code = code("IST0175", "JwksUriFetchUnrestricted", Level::Warning);
/// A Gateway API definition is older than what is read.
pub const GATEWAY_API_TOO_OLD: Code = code("IST0176", "GatewayAPICRDVersionBelowMinimum", Level::Warning);
/// Several ServiceEntries give one port of a host several protocols.
pub const CONFLICTING_SERVICE_ENTRY_PROTOCOL: Code = code("IST0177", "ConflictingServiceEntryProtocol", Level::Warning);

/// Proxies are further from their control plane's version than is supported.
pub const VERSION_SKEW: Code = code("TRY0001", "VersionSkew", Level::Warning);
/// A certificate that the mesh depends on ends soon, or has ended.
pub const CERTIFICATE_EXPIRES: Code = code("TRY0002", "CertificateExpires", Level::Warning);
/// A definition of custom resources is older than the control plane.
pub const DEFINITION_TOO_OLD: Code = code("TRY0003", "CustomResourceDefinitionTooOld", Level::Warning);

/// All kinds of findings.
pub const ALL: &[Code] = &[
    DEPRECATED,
    REFERENCED_RESOURCE_NOT_FOUND,
    NAMESPACE_NOT_INJECTED,
    POD_MISSING_PROXY,
    SCHEMA_ERROR,
    MISPLACED_ANNOTATION,
    UNKNOWN_ANNOTATION,
    CONFLICTING_MESH_HOSTS,
    CONFLICTING_SIDECARS,
    SEVERAL_DEFAULT_SIDECARS,
    PORT_SELECTOR_REQUIRED,
    DEPLOYMENT_SEVERAL_PROTOCOLS,
    PORT_NAME_CONVENTION,
    NAMESPACE_MULTIPLE_INJECTION_LABELS,
    INVALID_ANNOTATION,
    UNKNOWN_SERVICE_REGISTRY,
    NO_MATCHING_WORKLOADS,
    NO_SERVER_VERIFICATION,
    NO_SERVER_VERIFICATION_PORT,
    UNREACHABLE_RULE,
    INEFFECTIVE_MATCH,
    HOST_NOT_FOUND_IN_GATEWAY,
    SCHEMA_WARNING,
    ADDRESSES_REQUIRED,
    DEPRECATED_ANNOTATION,
    ALPHA_ANNOTATION,
    DEPLOYMENT_CONFLICTING_PORTS,
    GATEWAY_DUPLICATE_CERTIFICATE,
    INVALID_WEBHOOK,
    INGRESS_ROUTE_RULES_NOT_AFFECTED,
    INSUFFICIENT_PERMISSIONS,
    UNSUPPORTED_KUBERNETES_VERSION,
    INVALID_APPLICATION_UID,
    CONFLICTING_GATEWAYS,
    IMAGE_AUTO_WARNING,
    IMAGE_AUTO_ERROR,
    INJECTED_BY_DEFAULT,
    JWT_CLAIM_WITHOUT_AUTHENTICATION,
    EXTERNAL_NAME_PORT,
    ENVOY_FILTER_RELATIVE,
    ENVOY_FILTER_REPLACE,
    ENVOY_FILTER_ADD,
    ENVOY_FILTER_REMOVE,
    ENVOY_FILTER_RELATIVE_VERSION,
    UNSUPPORTED_GATEWAY_API_VERSION,
    INVALID_TELEMETRY_PROVIDER,
    PROXY_IMAGE_MISMATCH,
    CONFLICTING_TELEMETRIES,
    SEVERAL_DEFAULT_TELEMETRIES,
    INVALID_GATEWAY_CREDENTIAL,
    GATEWAY_PORT_NOT_ON_SERVICE,
    INVALID_EXTERNAL_CONTROL_PLANE,
    EXTERNAL_CONTROL_PLANE_ADDRESS,
    REFERENCED_INTERNAL_GATEWAY,
    INEFFECTIVE_SELECTOR,
    INEFFECTIVE_POLICY,
    UPDATE_INCOMPATIBILITY,
    INCONSISTENT_SERVICE,
    NEGATIVE_CONDITION,
    FUTURE_UNSUPPORTED_GATEWAY_API_VERSION,
    SUBSET_SELECTS_NO_POD,
    UNKNOWN_DESTINATION_RULE_HOST,
    JWKS_FETCH_UNRESTRICTED,
    GATEWAY_API_TOO_OLD,
    CONFLICTING_SERVICE_ENTRY_PROTOCOL,
    VERSION_SKEW,
    CERTIFICATE_EXPIRES,
    DEFINITION_TOO_OLD,
];

/// The object that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Kind.
    pub kind: String,
    /// Namespace, empty if it has none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// `Kind name.namespace`, as far as there are name and namespace.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if self.namespace.is_empty() {
            Ok(())
        } else {
            write!(f, ".{}", self.namespace)
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Which kind.
    pub code: Code,
    /// How bad it is.
    pub level: Level,
    /// The object, if it is about one.
    pub origin: Option<Origin>,
    /// The file the object is from, with the line it begins at.
    pub file: Option<String>,
    /// What is wrong and what to do.
    pub text: String,
}

impl Message {
    /// A finding about no object in particular.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            level: code.level,
            origin: None,
            file: None,
            text: text.into(),
        }
    }

    /// A finding about an object.
    pub fn about(code: Code, object: &Value, text: impl Into<String>) -> Self {
        let field = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let origin = Origin {
            kind: field("/kind").to_owned(),
            namespace: field("/metadata/namespace").to_owned(),
            name: field("/metadata/name").to_owned(),
        };
        let file = field(crate::objects::FILE);
        let file = (!file.is_empty()).then(|| file.to_owned());
        Self {
            origin: Some(origin),
            file,
            ..Self::new(code, text)
        }
    }

    /// A finding about the cluster as a whole.
    pub fn of_cluster(code: Code, text: impl Into<String>) -> Self {
        let origin = Origin {
            kind: "Cluster".to_owned(),
            namespace: String::new(),
            name: String::new(),
        };
        Self {
            origin: Some(origin),
            ..Self::new(code, text)
        }
    }

    /// The same, worse or less bad than is usual.
    pub fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// A finding about the networks of the mesh.
    pub fn of_mesh_networks(code: Code, text: impl Into<String>) -> Self {
        let origin = Origin {
            kind: "MeshNetworks".to_owned(),
            namespace: api::names::ROOT_NAMESPACE.to_owned(),
            name: "meshnetworks".to_owned(),
        };
        Self {
            origin: Some(origin),
            ..Self::new(code, text)
        }
    }

    /// Does `CODE=Kind name.namespace` (with `*` for the rest of a name) name this finding? `Kind namespace/name` is the
    /// same.
    pub fn is_suppressed_by(&self, rule: &str) -> bool {
        let Some((code, object)) = rule.split_once('=') else {
            return false;
        };
        let names = match &self.origin {
            Some(origin) => [
                origin.to_string(),
                format!("{} {}/{}", origin.kind, origin.namespace, origin.name),
            ],
            None => Default::default(),
        };
        let is_meant = |name: &String| match object.split_once('*') {
            Some((begin, end)) => {
                name.starts_with(begin) && name.ends_with(end) && name.len() >= begin.len() + end.len()
            }
            None => name == object,
        };
        code == self.code.code && names.iter().any(is_meant)
    }
}

/// `Warning [IST0123] (Namespace test-ns) The namespace has …`.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.level, self.code.code)?;
        match (&self.origin, &self.file) {
            (Some(origin), Some(file)) => write!(f, " ({origin} {file})")?,
            (Some(origin), None) => write!(f, " ({origin})")?,
            _ => {}
        }
        write!(f, " {}", self.text)
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.code.code)?;
        map.serialize_entry("documentationUrl", &self.code.documentation())?;
        map.serialize_entry("level", &self.level.to_string())?;
        map.serialize_entry("message", &self.text)?;
        if let Some(origin) = &self.origin {
            map.serialize_entry("origin", &origin.to_string())?;
        }
        if let Some(file) = &self.file {
            map.serialize_entry("reference", file)?;
        }
        map.end()
    }
}
