//! Tracers, statistics sinks, and the clusters they send to.

use serde_json::{Map, Value, json};

use super::clusters::{assignment, http2, with};
use super::{BootstrapError, Context, typed};

/// A secret served by the agent.
pub(super) fn sds(name: &str) -> Value {
    json!({
        "name": name,
        "sds_config": {
            "api_config_source": {
                "api_type": "GRPC",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "sds-grpc" } }],
                "set_node_on_first_message_only": true,
                "transport_api_version": "V3",
            },
            "resource_api_version": "V3",
        },
    })
}

/// `host:port` as a socket address; `$(HOST_IP)` is the node's address.
fn address(cx: &Context<'_>, what: &'static str, text: &str) -> Result<Value, BootstrapError> {
    let wrong = || BootstrapError::Address {
        what,
        address: text.to_owned(),
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host == "$(HOST_IP)" && !cx.options.host_ip.is_empty() {
        &cx.options.host_ip
    } else {
        host
    };
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(json!({ "socket_address": { "address": host, "port_value": port } }))
}

fn cluster(cx: &Context<'_>, name: &str, address: Value) -> Value {
    json!({
        "name": name,
        "alt_stat_name": format!("{name};"),
        "type": "STRICT_DNS",
        "respect_dns_ttl": true,
        "dns_lookup_family": cx.addresses.dns_family,
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": assignment(name, address),
    })
}

/// The kind of tracer and its address.
fn tracer<'a>(cx: &'a Context<'_>) -> Option<(&'static str, &'a str)> {
    let tracing = cx.config.get("tracing")?;
    ["zipkin", "datadog"]
        .into_iter()
        .find_map(|kind| Some((kind, tracing.get(kind)?.get("address")?.as_str()?)))
}

/// A backend configured as `{address, tlsSettings, tcpKeepalive}`.
fn service<'a>(cx: &'a Context<'_>, field: &str) -> Option<(&'a Value, &'a str)> {
    let service = cx.config.get(field)?;
    Some((service, service.get("address")?.as_str().filter(|a| !a.is_empty())?))
}

pub(super) fn clusters(cx: &Context<'_>) -> Result<Vec<Value>, BootstrapError> {
    let mut clusters = Vec::new();
    if let Some((kind, at)) = tracer(cx) {
        let name = if kind == "zipkin" { "zipkin" } else { "datadog_agent" };
        let tls = cx.config.get("tracing").and_then(|t| t.get("tlsSettings"));
        let mut tracer = cluster(cx, name, address(cx, "tracer", at)?);
        if kind == "zipkin" {
            tracer = with(tracer, json!({ "dns_refresh_rate": "30s" }));
        }
        clusters.push(with(tracer, transport_socket(cx, tls, name, false)));
    }
    for (field, name, what) in [
        ("envoyMetricsService", "envoy_metrics_service", "metrics service"),
        ("envoyAccessLogService", "envoy_accesslog_service", "access log service"),
    ] {
        if let Some((service, at)) = service(cx, field) {
            let backend = with(cluster(cx, name, address(cx, what, at)?), http2());
            let backend = with(backend, keepalive(service.get("tcpKeepalive")));
            clusters.push(with(
                backend,
                transport_socket(cx, service.get("tlsSettings"), name, true),
            ));
        }
    }
    Ok(clusters)
}

fn keepalive(settings: Option<&Value>) -> Value {
    let Some(settings) = settings else { return json!({}) };
    let seconds = |field: &str| {
        settings
            .get(field)?
            .as_str()
            .and_then(crate::settings::parse_duration)
            .map(|d| d.as_secs())
    };
    let probes = settings.get("probes").and_then(Value::as_u64);
    let fields = [
        ("keepalive_probes", probes),
        ("keepalive_time", seconds("time")),
        ("keepalive_interval", seconds("interval")),
    ];
    let keepalive: Map<_, _> = fields
        .into_iter()
        .filter_map(|(k, v)| Some((k.to_owned(), json!(v.filter(|v| *v > 0)?))))
        .collect();
    json!({ "upstream_connection_options": { "tcp_keepalive": keepalive } })
}

/// TLS towards a backend, from ClientTLSSettings.
fn transport_socket(cx: &Context<'_>, settings: Option<&Value>, cluster: &str, h2: bool) -> Value {
    let Some(settings) = settings else { return json!({}) };
    let text = |field: &str| settings.get(field).and_then(Value::as_str).unwrap_or_default();
    let file = |key: &str, field: &str| {
        let from_node = cx.node.text(key);
        if from_node.is_empty() {
            text(field).to_owned()
        } else {
            from_node.to_owned()
        }
    };
    let root = file("TLS_CLIENT_ROOT_CERT", "caCertificates");
    let file_root = || format!("file-root:{}", if root.is_empty() { "system" } else { &root });
    let (certificate, root, alpn, default_sni) = match text("mode") {
        "SIMPLE" => (None, file_root(), json!(["h2"]), ""),
        "MUTUAL" => {
            let chain = file("TLS_CLIENT_CERT_CHAIN", "clientCertificate");
            let key = file("TLS_CLIENT_KEY", "privateKey");
            (Some(format!("file-cert:{chain}~{key}")), file_root(), json!(["h2"]), "")
        }
        "ISTIO_MUTUAL" => (
            Some("default".to_owned()),
            "ROOTCA".to_owned(),
            json!(["istio", "h2"]),
            cluster,
        ),
        _ => return json!({}),
    };
    let sans: Vec<Value> = settings
        .get("subjectAltNames")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut validation = Map::new();
    if !sans.is_empty() {
        let exact: Vec<Value> = sans.iter().map(|s| json!({ "exact": s })).collect();
        validation.insert("match_subject_alt_names".to_owned(), exact.into());
    }
    let mut common = Map::new();
    if let Some(certificate) = certificate {
        common.insert(
            "tls_certificate_sds_secret_configs".to_owned(),
            json!([sds(&certificate)]),
        );
    }
    common.insert(
        "combined_validation_context".to_owned(),
        json!({ "default_validation_context": validation, "validation_context_sds_secret_config": sds(&root) }),
    );
    if h2 {
        common.insert("alpn_protocols".to_owned(), alpn);
    }
    let sni = if text("sni").is_empty() {
        default_sni
    } else {
        text("sni")
    };
    let mut context = Map::from_iter([("common_tls_context".to_owned(), common.into())]);
    if !sni.is_empty() {
        context.insert("sni".to_owned(), sni.into());
    }
    let message = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    json!({ "transport_socket": typed("envoy.transport_sockets.tls", message, context.into()) })
}

/// `tracing` and `stats_sinks`, where configured.
pub(super) fn fields(cx: &Context<'_>) -> Result<Map<String, Value>, BootstrapError> {
    let mut fields = Map::new();
    if let Some((kind, _)) = tracer(cx) {
        let http = if kind == "zipkin" {
            let config = json!({
                "collector_cluster": "zipkin",
                "collector_endpoint": "/api/v2/spans",
                "collector_endpoint_version": "HTTP_JSON",
                "trace_id_128bit": true,
                "shared_span_context": false,
            });
            typed("envoy.tracers.zipkin", "envoy.config.trace.v3.ZipkinConfig", config)
        } else {
            let config = json!({ "collector_cluster": "datadog_agent", "service_name": cx.service });
            typed("envoy.tracers.datadog", "envoy.config.trace.v3.DatadogConfig", config)
        };
        fields.insert("tracing".to_owned(), json!({ "http": http }));
    }
    let mut sinks = Vec::new();
    if service(cx, "envoyMetricsService").is_some() {
        let config = json!({
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": "envoy_metrics_service" } },
        });
        sinks.push(typed(
            "envoy.stat_sinks.metrics_service",
            "envoy.config.metrics.v3.MetricsServiceConfig",
            config,
        ));
    }
    let statsd = cx.config.text("statsdUdpAddress");
    if !statsd.is_empty() {
        let config = json!({ "address": address(cx, "statsd", statsd)? });
        sinks.push(typed(
            "envoy.stat_sinks.statsd",
            "envoy.config.metrics.v3.StatsdSink",
            config,
        ));
    }
    if !sinks.is_empty() {
        fields.insert("stats_sinks".to_owned(), sinks.into());
    }
    Ok(fields)
}
