//! The table of custom resources: group, names, versions, printer columns.

use schemars::{JsonSchema, Schema, generate::SchemaSettings};

use crate::names::group;

/// A custom resource that the control plane reads.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// API group.
    pub group: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Plural, as in URLs.
    pub plural: &'static str,
    /// Singular.
    pub singular: &'static str,
    /// Short names of kubectl.
    pub short: &'static [&'static str],
    /// Served versions, in the order of the definition.
    pub versions: &'static [&'static str],
    /// The version that is stored.
    pub storage: &'static str,
    /// Printer columns: name, path, type, description.
    pub columns: &'static [(&'static str, &'static str, &'static str, &'static str)],
    /// JSON schema of the spec.
    pub(crate) schema: fn() -> Schema,
}

impl Kind {
    /// The version that the control plane watches: the best that is served.
    pub fn version(&self) -> &'static str {
        if self.versions.contains(&"v1") {
            "v1"
        } else {
            self.storage
        }
    }

    /// The kind of that group and name, whatever the version.
    pub fn find(group: &str, kind: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|k| k.group == group && k.kind == kind)
    }
}

fn schema<T: JsonSchema>() -> Schema {
    let mut settings = SchemaSettings::openapi3();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    settings.into_generator().into_root_schema_for::<T>()
}

const AGE: (&str, &str, &str, &str) = (
    "Age",
    ".metadata.creationTimestamp",
    "date",
    "When the object was created, as the server saw it.",
);
const THREE: &[&str] = &["v1", "v1alpha3", "v1beta1"];
const TWO: &[&str] = &["v1", "v1beta1"];

/// All kinds, in the order of Istio's own definitions.
pub const KINDS: &[Kind] = &[
    Kind {
        group: group::EXTENSIONS,
        kind: "TrafficExtension",
        plural: "trafficextensions",
        singular: "trafficextension",
        short: &[],
        versions: &["v1alpha1"],
        storage: "v1alpha1",
        columns: &[AGE],
        schema: schema::<crate::extensions::TrafficExtension>,
    },
    Kind {
        group: group::EXTENSIONS,
        kind: "WasmPlugin",
        plural: "wasmplugins",
        singular: "wasmplugin",
        short: &[],
        versions: &["v1alpha1"],
        storage: "v1alpha1",
        columns: &[AGE],
        schema: schema::<crate::extensions::WasmPlugin>,
    },
    Kind {
        group: group::NETWORKING,
        kind: "DestinationRule",
        plural: "destinationrules",
        singular: "destinationrule",
        short: &["dr"],
        versions: THREE,
        storage: "v1",
        columns: &[
            (
                "Host",
                ".spec.host",
                "string",
                "The name of a service from the service registry",
            ),
            AGE,
        ],
        schema: schema::<crate::networking::DestinationRule>,
    },
    Kind {
        group: group::NETWORKING,
        kind: "EnvoyFilter",
        plural: "envoyfilters",
        singular: "envoyfilter",
        short: &[],
        versions: &["v1alpha3"],
        storage: "v1alpha3",
        columns: &[],
        schema: schema::<crate::networking::EnvoyFilter>,
    },
    Kind {
        group: group::NETWORKING,
        kind: "Gateway",
        plural: "gateways",
        singular: "gateway",
        short: &["gw"],
        versions: THREE,
        storage: "v1",
        columns: &[],
        schema: schema::<crate::networking::Gateway>,
    },
    Kind {
        group: group::NETWORKING,
        kind: "ProxyConfig",
        plural: "proxyconfigs",
        singular: "proxyconfig",
        short: &[],
        versions: &["v1beta1"],
        storage: "v1beta1",
        columns: &[],
        schema: schema::<crate::networking::ProxyConfig>,
    },
    Kind {
        group: group::NETWORKING,
        kind: "ServiceEntry",
        plural: "serviceentries",
        singular: "serviceentry",
        short: &["se"],
        versions: THREE,
        storage: "v1",
        columns: &[
            (
                "Hosts",
                ".spec.hosts",
                "string",
                "The hosts associated with the ServiceEntry",
            ),
            (
                "Location",
                ".spec.location",
                "string",
                "Whether the service is external to the mesh or part of the mesh (MESH_EXTERNAL or MESH_INTERNAL)",
            ),
            (
                "Resolution",
                ".spec.resolution",
                "string",
                "Service resolution mode for the hosts (NONE, STATIC, or DNS)",
            ),
            AGE,
        ],
        schema: schema::<crate::networking::ServiceEntry>,
    },
    Kind {
        group: group::NETWORKING,
        kind: "Sidecar",
        plural: "sidecars",
        singular: "sidecar",
        short: &[],
        versions: THREE,
        storage: "v1",
        columns: &[],
        schema: schema::<crate::networking::Sidecar>,
    },
    Kind {
        group: group::NETWORKING,
        kind: "VirtualService",
        plural: "virtualservices",
        singular: "virtualservice",
        short: &["vs"],
        versions: THREE,
        storage: "v1",
        columns: &[
            (
                "Gateways",
                ".spec.gateways",
                "string",
                "The names of gateways and sidecars that should apply these routes",
            ),
            (
                "Hosts",
                ".spec.hosts",
                "string",
                "The destination hosts to which traffic is being sent",
            ),
            AGE,
        ],
        schema: schema::<crate::networking::VirtualService>,
    },
    Kind {
        group: group::NETWORKING,
        kind: "WorkloadEntry",
        plural: "workloadentries",
        singular: "workloadentry",
        short: &["we"],
        versions: THREE,
        storage: "v1",
        columns: &[
            AGE,
            (
                "Address",
                ".spec.address",
                "string",
                "Address associated with the network endpoint.",
            ),
        ],
        schema: schema::<crate::networking::WorkloadEntry>,
    },
    Kind {
        group: group::NETWORKING,
        kind: "WorkloadGroup",
        plural: "workloadgroups",
        singular: "workloadgroup",
        short: &["wg"],
        versions: THREE,
        storage: "v1",
        columns: &[AGE],
        schema: schema::<crate::networking::WorkloadGroup>,
    },
    Kind {
        group: group::SECURITY,
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        singular: "authorizationpolicy",
        short: &["ap"],
        versions: TWO,
        storage: "v1",
        columns: &[("Action", ".spec.action", "string", "The operation to take."), AGE],
        schema: schema::<crate::security::AuthorizationPolicy>,
    },
    Kind {
        group: group::SECURITY,
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        singular: "peerauthentication",
        short: &["pa"],
        versions: TWO,
        storage: "v1",
        columns: &[
            (
                "Mode",
                ".spec.mtls.mode",
                "string",
                "Defines the mTLS mode used for peer authentication.",
            ),
            AGE,
        ],
        schema: schema::<crate::security::PeerAuthentication>,
    },
    Kind {
        group: group::SECURITY,
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        singular: "requestauthentication",
        short: &["ra"],
        versions: TWO,
        storage: "v1",
        columns: &[],
        schema: schema::<crate::security::RequestAuthentication>,
    },
    Kind {
        group: group::TELEMETRY,
        kind: "Telemetry",
        plural: "telemetries",
        singular: "telemetry",
        short: &["telemetry"],
        versions: &["v1", "v1alpha1"],
        storage: "v1alpha1",
        columns: &[AGE],
        schema: schema::<crate::telemetry::Telemetry>,
    },
];
