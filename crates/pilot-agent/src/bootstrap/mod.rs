//! Node and configuration → Envoy's bootstrap (control-plane.md §4.2). Pure; stock Envoy 1.40 accepts the result.

mod clusters;
mod listeners;
mod runtime;
mod stats;
mod telemetry;

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::node::Node;
use crate::proxy_config::{ProxyConfig, ProxyConfigError};

/// What the bootstrap depends on beside the node and its configuration.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Log lines of Envoy as JSON.
    pub log_as_json: bool,
    /// `HOST_IP`: replaces `$(HOST_IP)` in addresses of tracers.
    pub host_ip: String,
    /// `COMPLIANCE_POLICY`.
    pub compliance_policy: String,
    /// Listen on and connect to both families.
    pub dual_stack: bool,
}

/// The bootstrap cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A field of the configuration cannot be used.
    #[error(transparent)]
    ProxyConfig(#[from] ProxyConfigError),
    /// An address is not `host:port`.
    #[error("{what} address {address:?} of ProxyConfig is not host:port")]
    Address {
        /// Whose address.
        what: &'static str,
        /// As written.
        address: String,
    },
}

/// Loopback and wildcard addresses of the pod's families.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    localhost: &'static str,
    wildcard: &'static str,
    additional: Option<(&'static str, &'static str)>,
    dns_family: &'static str,
}

fn addresses(ips: &[IpAddr], dual_stack: bool) -> Addresses {
    const V4: (&str, &str) = ("127.0.0.1", "0.0.0.0");
    const V6: (&str, &str) = ("::1", "::");
    let one = |(localhost, wildcard), dns_family| Addresses {
        localhost,
        wildcard,
        additional: None,
        dns_family,
    };
    if !ips.is_empty() && ips.iter().all(IpAddr::is_ipv6) {
        return one(V6, "V6_ONLY");
    }
    if !dual_stack || ips.iter().all(IpAddr::is_ipv4) {
        return one(V4, "V4_ONLY");
    }
    let (first, second) = if ips.first().is_some_and(IpAddr::is_ipv6) {
        (V6, V4)
    } else {
        (V4, V6)
    };
    Addresses {
        additional: Some(second),
        ..one(first, "ALL")
    }
}

/// Everything that the parts read.
pub(crate) struct Context<'a> {
    node: &'a Node,
    config: &'a ProxyConfig,
    options: &'a Options,
    addresses: Addresses,
    admin_port: u16,
    status_port: u16,
    /// `node.cluster`: the name in traces and statistics.
    service: String,
}

/// The bootstrap as JSON.
///
/// # Errors
/// Names the field of the configuration that cannot be used.
pub fn render(node: &Node, config: &ProxyConfig, options: &Options) -> Result<Value, BootstrapError> {
    let cx = Context {
        node,
        config,
        options,
        addresses: addresses(&node.instance_ips, options.dual_stack),
        admin_port: config.admin_port()?,
        status_port: config.status_port()?,
        service: service_name(node, config),
    };
    let mut bootstrap = json!({
        "application_log_config": { "log_format": log_format(options.log_as_json) },
        "node": {
            "id": node.id,
            "cluster": cx.service,
            "locality": locality(node),
            "metadata": node.metadata,
        },
        "layered_runtime": {
            "layers": [
                { "name": "global config", "static_layer": runtime::flags(&cx) },
                { "name": "admin", "admin_layer": {} },
            ],
        },
        "bootstrap_extensions": extensions(&cx),
        "stats_config": stats::config(&cx),
        "admin": {
            "access_log": [typed(
                "envoy.access_loggers.file",
                "envoy.extensions.access_loggers.file.v3.FileAccessLog",
                json!({ "path": "/dev/null" }),
            )],
            "profile_path": "/var/lib/istio/data/envoy.prof",
            "address": socket_address(cx.addresses.localhost, cx.admin_port),
        },
        "dynamic_resources": {
            "lds_config": { "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3" },
            "cds_config": { "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3" },
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "set_node_on_first_message_only": true,
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds-grpc" } }],
            },
        },
        "static_resources": { "clusters": clusters::all(&cx)?, "listeners": listeners::all(&cx) },
        "overload_manager": {
            "resource_monitors": [typed(
                "envoy.resource_monitors.global_downstream_max_connections",
                "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                json!({ "max_active_downstream_connections": runtime::max_connections(&cx) }),
            )],
        },
        "deferred_stat_options": { "enable_deferred_creation_stats": true },
    });
    if let Value::Object(fields) = &mut bootstrap {
        fields.extend(stats::intervals(&cx));
        fields.extend(telemetry::fields(&cx)?);
        fields.extend(cluster_manager(&cx));
    }
    Ok(bootstrap)
}

fn log_format(as_json: bool) -> Value {
    if as_json {
        json!({ "json_format": {
            "time": "%Y-%m-%dT%T.%fZ", "level": "%l", "scope": "envoy %n", "msg": "%j", "caller": "%g:%#", "thread": "%t",
        } })
    } else {
        json!({ "text_format": "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t" })
    }
}

fn locality(node: &Node) -> Value {
    let parts = [
        ("region", &node.locality.region),
        ("zone", &node.locality.zone),
        ("sub_zone", &node.locality.sub_zone),
    ];
    parts
        .into_iter()
        .filter(|(_, v)| !v.is_empty())
        .map(|(k, v)| (k.to_owned(), json!(v)))
        .collect::<Map<_, _>>()
        .into()
}

fn extensions(cx: &Context<'_>) -> Value {
    let mut extensions = Vec::new();
    if cx.node.flag("METADATA_DISCOVERY") {
        extensions.push(json!({
            "name": "metadata_discovery",
            "typed_config": {
                "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
                "type_url": "type.googleapis.com/istio.workload.BootstrapExtension",
                "value": { "config_source": { "ads": {} } },
            },
        }));
    }
    extensions.push(json!({
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {
            "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
            "type_url": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            "value": { "buffer_size_kb": 64 },
        },
    }));
    extensions.into()
}

fn cluster_manager(cx: &Context<'_>) -> Option<(String, Value)> {
    let mut manager = Map::new();
    if cx.node.flag("ENABLE_SELF_DISCOVERY") {
        manager.insert("local_cluster_name".to_owned(), "local_cluster".into());
    }
    let outlier_log = cx.node.text("OUTLIER_LOG_PATH");
    if !outlier_log.is_empty() {
        manager.insert("outlier_detection".to_owned(), json!({ "event_log_path": outlier_log }));
    }
    if let Ok(load_stats) = serde_json::from_str::<Value>(cx.node.text("LOAD_STATS_CONFIG_JSON")) {
        manager.insert("load_stats_config".to_owned(), load_stats);
    }
    if manager.is_empty() {
        return None;
    }
    manager.insert("enable_deferred_cluster_creation".to_owned(), true.into());
    Some(("cluster_manager".to_owned(), manager.into()))
}

/// A named extension with its typed configuration.
pub(crate) fn typed(name: &str, message: &str, fields: Value) -> Value {
    json!({ "name": name, "typed_config": any(message, fields) })
}

/// A message as `Any`.
pub(crate) fn any(message: &str, fields: Value) -> Value {
    let mut config = Map::from_iter([("@type".to_owned(), format!("type.googleapis.com/{message}").into())]);
    if let Value::Object(fields) = fields {
        config.extend(fields);
    }
    config.into()
}

/// A TCP socket address.
pub(crate) fn socket_address(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

/// `node.cluster` (`getServiceCluster` in the reference): the configured name unless it is the default, else made of
/// the application's label or the workload's name.
fn service_name(node: &Node, config: &ProxyConfig) -> String {
    let workload = node.text("WORKLOAD_NAME");
    let namespace = node.text("NAMESPACE");
    let canonical = || {
        let labels = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
        let label = labels
            .iter()
            .find_map(|l| node.labels.get(*l).filter(|v| !v.is_empty()));
        label
            .cloned()
            .unwrap_or_else(|| if workload.is_empty() { "istio-proxy" } else { workload }.to_owned())
    };
    let name = match config.text("tracingServiceName") {
        "CANONICAL_NAME_ONLY" => canonical(),
        "CANONICAL_NAME_AND_NAMESPACE" if !namespace.is_empty() => return format!("{}.{namespace}", canonical()),
        "CANONICAL_NAME_AND_NAMESPACE" => canonical(),
        _ => config.text("serviceCluster").to_owned(),
    };
    if !name.is_empty() && name != "istio-proxy" {
        return name;
    }
    let app = ["app", "service.istio.io/canonical-name", "app.kubernetes.io/name"];
    let app = app.iter().find_map(|l| node.labels.get(*l).filter(|v| !v.is_empty()));
    match (app, workload, namespace) {
        (Some(app), _, _) => format!("{app}.{namespace}"),
        (None, "", "") => "istio-proxy".to_owned(),
        (None, "", _) => format!("istio-proxy.{namespace}"),
        (None, ..) => format!("{workload}.{namespace}"),
    }
}
