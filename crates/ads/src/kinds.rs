//! The resource types of the discovery protocol (control-plane.md §1.11).

use std::sync::{Arc, LazyLock};

/// Clusters.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Load assignments, one per EDS cluster and named like it.
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Listeners.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Route configurations.
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// TLS secrets.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Extension configurations.
pub const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
/// DNS name table, a single resource.
pub const NAME_TABLE: &str = "type.googleapis.com/istio.networking.nds.v1.NameTable";
/// Proxy configuration, a single resource.
pub const PROXY_CONFIG: &str = "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig";
/// Sent by agents to report workload health; never answered.
pub const HEALTH: &str = "type.googleapis.com/istio.v1.HealthInformation";
/// Prefix of the types by which tools ask the control plane about itself.
pub const DEBUG_PREFIX: &str = "istio.io/debug";

/// Short name, type URL and wildcard rule of the types this protocol orders, in the order they are sent.
const ORDERED: [(&str, &str, bool); 8] = [
    ("cds", CLUSTER, true),
    ("eds", ENDPOINT, false),
    ("lds", LISTENER, true),
    ("rds", ROUTE, false),
    ("sds", SECRET, false),
    ("ecds", EXTENSION, false),
    ("nds", NAME_TABLE, true),
    ("pcds", PROXY_CONFIG, true),
];

static URLS: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| ORDERED.iter().map(|(_, url, _)| Arc::from(*url)).collect());

/// Position of a type in the order of sending; unknown types come last.
pub fn rank(type_url: &str) -> usize {
    ORDERED
        .iter()
        .position(|(_, url, _)| *url == type_url)
        .unwrap_or(ORDERED.len())
}

/// Number of distinct ranks, the one of unknown types included.
pub const RANKS: usize = ORDERED.len() + 1;

/// Short name used in metrics and logs, `other` for unknown types.
pub fn short_name(type_url: &str) -> &'static str {
    ORDERED
        .iter()
        .find(|(_, url, _)| *url == type_url)
        .map_or("other", |(short, _, _)| short)
}

/// Short name of a rank, see [`rank`].
pub fn short_name_of_rank(rank: usize) -> &'static str {
    ORDERED.get(rank).map_or("other", |(short, _, _)| short)
}

/// Whether an empty first subscription means "everything" (the legacy wildcard of the protocol).
pub fn is_wildcard(type_url: &str) -> bool {
    ORDERED.iter().any(|(_, url, wildcard)| *url == type_url && *wildcard)
}

/// Types whose resources name resources of `type_url`: what must be replaced at the proxy before a resource of
/// `type_url` may go away.
pub fn referrers(type_url: &str) -> &'static [&'static str] {
    match type_url {
        CLUSTER => &[LISTENER, ROUTE],
        ENDPOINT => &[CLUSTER],
        ROUTE => &[LISTENER],
        SECRET => &[CLUSTER, LISTENER],
        _ => &[],
    }
}

/// Types that must be accepted before a change of `type_url` is sent, because it may name what they bring.
pub fn prerequisites(type_url: &str) -> &'static [&'static str] {
    match type_url {
        LISTENER | ROUTE => &[CLUSTER],
        _ => &[],
    }
}

/// Whether the protocol may tell a proxy that a resource of this type is gone. Envoy mishandles the removal of
/// extension configurations (control-plane.md §1.13).
pub fn is_removable(type_url: &str) -> bool {
    type_url != EXTENSION
}

/// A shared copy of a type URL, without allocation for known types.
pub fn intern(type_url: &str) -> Arc<str> {
    URLS.iter()
        .find(|url| ***url == *type_url)
        .cloned()
        .unwrap_or_else(|| Arc::from(type_url))
}
