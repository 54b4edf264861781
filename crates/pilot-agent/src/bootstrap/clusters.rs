//! Static clusters: Envoy's own admin port, the agent, the agent's sockets, and telemetry backends.

use serde_json::{Map, Value, json};

use super::{BootstrapError, Context, any, socket_address, telemetry};

pub(super) fn all(cx: &Context<'_>) -> Result<Vec<Value>, BootstrapError> {
    let localhost = cx.addresses.localhost;
    let socket = cx.node.text("WORKLOAD_IDENTITY_SOCKET_FILE");
    let socket = format!("./var/run/secrets/workload-spiffe-uds/{socket}");
    let mut clusters = vec![
        local("prometheus_stats", tcp(localhost, cx.admin_port), "0.250s"),
        local("agent", tcp(localhost, cx.status_port), "0.250s"),
        with(local("sds-grpc", pipe(&socket), "1s"), http2()),
        xds(&format!("{}/XDS", cx.config.text("configPath"))),
    ];
    clusters.extend(telemetry::clusters(cx)?);
    if cx.node.flag("ENABLE_SELF_DISCOVERY") {
        clusters.push(own_workload());
    }
    Ok(clusters)
}

fn tcp(address: &str, port: u16) -> Value {
    let mut address = socket_address(address, port);
    address["socket_address"]["protocol"] = "TCP".into();
    address
}

fn pipe(path: &str) -> Value {
    json!({ "pipe": { "path": path } })
}

/// One endpoint, as a load assignment.
pub(super) fn assignment(cluster: &str, address: Value) -> Value {
    json!({ "cluster_name": cluster, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] })
}

fn local(name: &str, address: Value, connect_timeout: &str) -> Value {
    json!({
        "name": name,
        "alt_stat_name": format!("{name};"),
        "type": "STATIC",
        "connect_timeout": connect_timeout,
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": assignment(name, address),
    })
}

/// The cluster with further fields.
pub(super) fn with(mut cluster: Value, fields: Value) -> Value {
    if let (Value::Object(cluster), Value::Object(fields)) = (&mut cluster, fields) {
        cluster.extend(fields);
    }
    cluster
}

/// Speaks HTTP/2.
pub(super) fn http2() -> Value {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let options = any(
        OPTIONS,
        json!({ "explicit_http_config": { "http2_protocol_options": {} } }),
    );
    json!({ "typed_extension_protocol_options": Map::from_iter([(OPTIONS.to_owned(), options)]) })
}

fn xds(path: &str) -> Value {
    let threshold = |priority: &str| {
        json!({
            "priority": priority,
            "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
        })
    };
    let more = json!({
        "circuit_breakers": { "thresholds": [threshold("DEFAULT"), threshold("HIGH")] },
        "upstream_connection_options": { "tcp_keepalive": { "keepalive_time": 300 } },
        "max_requests_per_connection": 1,
    });
    with(with(local("xds-grpc", pipe(path), "1s"), more), http2())
}

/// The proxy's own workload, for zone-aware balancing.
fn own_workload() -> Value {
    const POLICY: &str = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest";
    let zone_aware = json!({ "locality_lb_config": { "zone_aware_lb_config": { "min_cluster_size": "1" } } });
    json!({
        "name": "local_cluster",
        "alt_stat_name": "local_cluster;",
        "type": "EDS",
        "connect_timeout": "1s",
        "load_balancing_policy": { "policies": [{ "typed_extension_config": {
            "name": "envoy.load_balancing_policies.least_request",
            "typed_config": any(POLICY, zone_aware),
        } }] },
        "eds_cluster_config": {
            "eds_config": { "ads": {}, "resource_api_version": "V3" },
            "service_name": "local_cluster",
        },
    })
}
