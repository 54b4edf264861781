//! Static listeners: metrics (15090), readiness (15021), and metrics over mutual TLS where asked for.

use serde_json::{Map, Value, json};

use super::{Context, socket_address, telemetry, typed};

const ROUTER: (&str, &str) = (
    "envoy.filters.http.router",
    "envoy.extensions.filters.http.router.v3.Router",
);

pub(super) fn all(cx: &Context<'_>) -> Vec<Value> {
    let port = |key: &str| {
        cx.node
            .metadata
            .get(key)
            .and_then(Value::as_u64)
            .and_then(|p| u16::try_from(p).ok())
    };
    let mut listeners = Vec::new();
    if let Some(port) = port("ENVOY_PROMETHEUS_PORT") {
        let only_local = cx
            .config
            .metadata()
            .get("METRICS_LOCALHOST_ACCESS_ONLY")
            .is_some_and(|v| v == "true");
        let compressed = cx
            .config
            .get("statsCompression")
            .and_then(Value::as_bool)
            .unwrap_or(true);
        let mut filters = if compressed { compressors() } else { Vec::new() };
        filters.push(router());
        let manager = manager("stats", &[("/stats/prometheus", "prometheus_stats")], filters);
        listeners.push(plain(cx, only_local, port, manager, Map::new()));
    }
    for (key, prefix, routes) in [
        (
            "ENVOY_SECURE_METRICS_PORT",
            "secure_stats",
            &[("/stats/prometheus", "prometheus_stats")][..],
        ),
        (
            "ENVOY_SECURE_MERGED_METRICS_PORT",
            "secure_merged_stats",
            &[("/stats/prometheus", "agent"), ("/metrics", "agent")],
        ),
    ] {
        if let Some(port) = port(key) {
            listeners.push(mutual_tls(cx, port, manager(prefix, routes, vec![router()])));
        }
    }
    if let Some(port) = port("ENVOY_STATUS_PORT") {
        let manager = manager("agent", &[("/healthz/ready", "agent")], vec![router()]);
        listeners.push(plain(cx, false, port, manager, Map::new()));
    }
    listeners
}

fn router() -> Value {
    typed(ROUTER.0, ROUTER.1, json!({}))
}

fn compressors() -> Vec<Value> {
    let one = |name: &str, message: &str| {
        let types = [
            "text/plain",
            "application/vnd.google.protobuf",
            "application/openmetrics-text",
        ];
        let types: Vec<&str> = types.into_iter().chain(["application/openmetrics-protobuf"]).collect();
        typed(
            &format!("envoy.filters.http.compressor.{name}"),
            "envoy.extensions.filters.http.compressor.v3.Compressor",
            json!({
                "compressor_library": typed(
                    &format!("stats_{name}"),
                    &format!("envoy.extensions.compression.{name}.compressor.v3.{message}"),
                    json!({}),
                ),
                "response_direction_config": { "common_config": { "content_type": types } },
            }),
        )
    };
    vec![one("brotli", "Brotli"), one("zstd", "Zstd"), one("gzip", "Gzip")]
}

fn manager(stat_prefix: &str, routes: &[(&str, &str)], filters: Vec<Value>) -> Value {
    let routes: Vec<Value> = routes
        .iter()
        .map(|(prefix, cluster)| json!({ "match": { "prefix": prefix }, "route": { "cluster": cluster } }))
        .collect();
    typed(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "codec_type": "AUTO",
            "stat_prefix": stat_prefix,
            "route_config": { "virtual_hosts": [{ "name": "backend", "domains": ["*"], "routes": routes }] },
            "http_filters": filters,
        }),
    )
}

fn address(ip: &str, port: u16) -> Value {
    let mut address = socket_address(ip, port);
    address["socket_address"]["protocol"] = "TCP".into();
    address
}

/// These listeners answer even when the proxy is overloaded.
fn base(ip: &str, port: u16) -> Map<String, Value> {
    Map::from_iter([
        ("name".to_owned(), format!("{ip}_{port}").into()),
        ("address".to_owned(), address(ip, port)),
        ("ignore_global_conn_limit".to_owned(), true.into()),
        ("bypass_overload_manager".to_owned(), true.into()),
    ])
}

fn plain(cx: &Context<'_>, only_local: bool, port: u16, manager: Value, more: Map<String, Value>) -> Value {
    let pick = |(localhost, wildcard): (&'static str, &'static str)| if only_local { localhost } else { wildcard };
    let mut listener = base(pick((cx.addresses.localhost, cx.addresses.wildcard)), port);
    if let Some(additional) = cx.addresses.additional {
        let additional = json!([{ "address": address(pick(additional), port) }]);
        listener.insert("additional_addresses".to_owned(), additional);
    }
    listener.extend(more);
    listener.insert("filter_chains".to_owned(), json!([{ "filters": [manager] }]));
    listener.into()
}

fn mutual_tls(cx: &Context<'_>, port: u16, manager: Value) -> Value {
    let mut listener = base(cx.addresses.wildcard, port);
    let inspector = typed(
        "envoy.filters.listener.tls_inspector",
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        json!({}),
    );
    let tls = typed(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({
            "require_client_certificate": true,
            "common_tls_context": {
                "tls_certificate_sds_secret_configs": [telemetry::sds("default")],
                "combined_validation_context": {
                    "default_validation_context": {},
                    "validation_context_sds_secret_config": telemetry::sds("ROOTCA"),
                },
            },
        }),
    );
    listener.insert("listener_filters".to_owned(), json!([inspector]));
    listener.insert(
        "filter_chains".to_owned(),
        json!([{ "filter_chain_match": { "transport_protocol": "tls" }, "transport_socket": tls, "filters": [manager] }]),
    );
    listener.into()
}
