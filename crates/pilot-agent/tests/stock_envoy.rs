//! Stock Envoy's opinion of our bootstrap.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

/// Everything that ProxyConfig can switch on, at once, as stock Envoy reads it.
#[test]
fn stock_envoy_accepts_the_bootstrap() {
    use pilot_agent::{bootstrap, node, proxy_config};
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../bin/envoy"));
    let envoy = std::env::var_os("TRYSAIL_ENVOY").map_or_else(default, PathBuf::from);
    if !envoy.exists() {
        println!(
            "skipped: no Envoy at {} (make build puts it there, or set TRYSAIL_ENVOY)",
            envoy.display()
        );
        return;
    }
    let config = r#"{
        "tracing": {"zipkin": {"address": "zipkin:9411"}, "tlsSettings": {"mode": "SIMPLE", "sni": "zipkin"}},
        "statsdUdpAddress": "10.1.1.1:9125",
        "envoyMetricsService": {"address": "metrics:15000", "tlsSettings": {"mode": "ISTIO_MUTUAL"}, "tcpKeepalive": {"time": "60s"}},
        "envoyAccessLogService": {"address": "als:15000"},
        "extraStatTags": ["request_tag"]
    }"#;
    let config = proxy_config::effective(&proxy_config::Sources {
        environment: config,
        ..Default::default()
    })
    .unwrap();
    let annotations = [
        ("sidecar.istio.io/statsHistogramBuckets", r#"{"istio":[1,5]}"#),
        ("sidecar.istio.io/statsFlushInterval", "10s"),
    ];
    let facts = node::Facts {
        id: "router~10.0.0.1~a.b~b.svc.cluster.local".into(),
        instance_ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        labels: None,
        annotations: Some(annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        pilot_san: Vec::new(),
        outlier_log_path: "/dev/stdout".into(),
        envoy_status_port: 15021,
        envoy_prometheus_port: 15090,
        secure_metrics_port: 15091,
        secure_merged_metrics_port: 15092,
        exit_on_zero_connections: true,
        skip_deprecated_logs: true,
        metadata_discovery: None,
        sds_socket: "socket".into(),
        version: "0.0.0".into(),
    };
    let node = node::node(&Default::default(), &config, &facts);
    let options = bootstrap::Options {
        dual_stack: true,
        log_as_json: true,
        ..Default::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("envoy-rev.json");
    std::fs::write(&file, bootstrap::render(&node, &config, &options).unwrap().to_string()).unwrap();
    let mut validate = std::process::Command::new(envoy);
    validate
        .args(["--mode", "validate", "-l", "warning", "-c"])
        .arg(&file)
        .current_dir(directory.path());
    let output = validate.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
