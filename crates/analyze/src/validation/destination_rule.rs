//! Destination rules.

use std::collections::BTreeSet;

use api::networking::DestinationRule;
use api::networking::destination_rule::{ClientTls, ConnectionPool, OutlierDetection, TrafficPolicy, Tunnel};
use serde_json::Value;

use super::field::{
    Exporter, Problems, check_count, check_domain, check_duration, check_export_to, check_host, check_labels,
    check_percent, check_port_number,
};
use super::load_balancer;
use super::name;

/// What begins the name of a credential that is a ConfigMap.
const CONFIG_MAP: &str = "configmap://";

pub(super) fn check(rule: &DestinationRule, spec: &Value, of: &str, problems: &mut Problems) {
    check_host(problems, "spec.host", &rule.host);
    if let Some(policy) = &rule.traffic_policy {
        check_policy("spec.trafficPolicy", policy, of, problems);
        zones("spec.trafficPolicy", &spec["trafficPolicy"], problems);
    }
    let mut names = BTreeSet::new();
    for (index, subset) in rule.subsets.iter().enumerate() {
        let field = format!("spec.subsets[{index}]");
        problems.require(
            name::is_label(&subset.name),
            format!("{field}.name"),
            format!("{:?} is no subset name; use letters, digits and '-'", subset.name),
        );
        problems.require(
            names.insert(&subset.name),
            format!("{field}.name"),
            format!("duplicate subset {:?}", subset.name),
        );
        check_labels(problems, &format!("{field}.labels"), &subset.labels);
        if let Some(policy) = &subset.traffic_policy {
            let field = format!("{field}.trafficPolicy");
            check_policy(&field, policy, of, problems);
            zones(&field, &spec["subsets"][index]["trafficPolicy"], problems);
        }
    }
    let exporter = match &rule.workload_selector {
        Some(_) if !rule.export_to.is_empty() => Exporter::Selecting,
        _ => Exporter::Other,
    };
    check_export_to(problems, of, &rule.export_to, exporter);
}

fn check_policy(field: &str, policy: &TrafficPolicy, of: &str, problems: &mut Problems) {
    let empty = policy.outlier_detection.is_none()
        && policy.connection_pool.is_none()
        && policy.load_balancer.is_none()
        && policy.tls.is_none()
        && policy.port_level_settings.is_empty()
        && policy.tunnel.is_none()
        && policy.proxy_protocol.is_none()
        && policy.retry_budget.is_none();
    problems.require(!empty, field, "traffic policy must have at least one field");
    problems.require(
        policy.tunnel.is_none() || policy.proxy_protocol.is_none(),
        field,
        "tunnel and proxyProtocol must not be set together",
    );
    let outliers = policy.outlier_detection.as_ref();
    check_outliers(&format!("{field}.outlierDetection"), outliers, problems);
    check_pool(
        &format!("{field}.connectionPool"),
        policy.connection_pool.as_ref(),
        problems,
    );
    let balancer = format!("{field}.loadBalancer");
    load_balancer::check(&balancer, policy.load_balancer.as_ref(), outliers.is_some(), problems);
    check_tls(&format!("{field}.tls"), policy.tls.as_ref(), of, problems);
    if let Some(tunnel) = &policy.tunnel {
        check_tunnel(&format!("{field}.tunnel"), tunnel, problems);
    }
    for (index, port) in policy.port_level_settings.iter().enumerate() {
        let field = format!("{field}.portLevelSettings[{index}]");
        problems.require(port.port.is_some(), format!("{field}.port"), "a port is required");
        let empty = port.outlier_detection.is_none()
            && port.connection_pool.is_none()
            && port.load_balancer.is_none()
            && port.tls.is_none();
        problems.require(!empty, &field, "port traffic policy must have at least one field");
        let outliers = port.outlier_detection.as_ref();
        check_outliers(&format!("{field}.outlierDetection"), outliers, problems);
        check_pool(
            &format!("{field}.connectionPool"),
            port.connection_pool.as_ref(),
            problems,
        );
        let balancer = format!("{field}.loadBalancer");
        load_balancer::check(&balancer, port.load_balancer.as_ref(), outliers.is_some(), problems);
        check_tls(&format!("{field}.tls"), port.tls.as_ref(), of, problems);
    }
}

/// Settings that translation does not read yet.
fn zones(field: &str, policy: &Value, problems: &mut Problems) {
    let ports = policy["portLevelSettings"].as_array().into_iter().flatten().enumerate();
    let of_ports = ports.map(|(index, port)| (format!("{field}.portLevelSettings[{index}]"), port));
    for (field, of) in std::iter::once((field.to_owned(), policy)).chain(of_ports) {
        load_balancer::check_zones(
            &format!("{field}.loadBalancer"),
            &of["loadBalancer"],
            of["outlierDetection"].is_object(),
            problems,
        );
    }
}

fn check_tunnel(field: &str, tunnel: &Tunnel, problems: &mut Problems) {
    problems.require(
        matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST"),
        format!("{field}.protocol"),
        "must be \"CONNECT\" or \"POST\"",
    );
    if tunnel.target_host.parse::<std::net::IpAddr>().is_err() {
        check_domain(problems, &format!("{field}.targetHost"), &tunnel.target_host);
    }
    check_port_number(problems, &format!("{field}.targetPort"), tunnel.target_port.0);
}

fn check_outliers(field: &str, outliers: Option<&OutlierDetection>, problems: &mut Problems) {
    let Some(outliers) = outliers else { return };
    check_duration(
        problems,
        &format!("{field}.baseEjectionTime"),
        outliers.base_ejection_time,
    );
    check_duration(problems, &format!("{field}.interval"), outliers.interval);
    if outliers.consecutive_errors.is_some_and(|errors| errors.0 != 0) {
        problems.warn(
            format!("{field}.consecutiveErrors"),
            "is deprecated, use consecutiveGatewayErrors or consecutive5xxErrors instead",
        );
    }
    let local = outliers
        .consecutive_local_origin_failures
        .is_some_and(|failures| failures.0 > 0);
    problems.require(
        outliers.split_external_local_origin_errors || !local,
        format!("{field}.consecutiveLocalOriginFailures"),
        "needs splitExternalLocalOriginErrors",
    );
    let percentages = [
        ("maxEjectionPercent", outliers.max_ejection_percent),
        ("minHealthPercent", outliers.min_health_percent),
    ];
    for (name, percent) in percentages {
        if let Some(percent) = percent {
            check_percent(problems, &format!("{field}.{name}"), f64::from(percent.0));
        }
    }
}

/// How many connections and requests there may be, and how long.
pub(super) fn check_pool(field: &str, pool: Option<&ConnectionPool>, problems: &mut Problems) {
    let Some(pool) = pool else { return };
    problems.require(
        pool.http.is_some() || pool.tcp.is_some(),
        field,
        "connection pool must have at least one field",
    );
    if let Some(http) = &pool.http {
        let field = format!("{field}.http");
        for (name, number) in [
            ("http1MaxPendingRequests", http.http1_max_pending_requests),
            ("http2MaxRequests", http.http2_max_requests),
            ("maxRequestsPerConnection", http.max_requests_per_connection),
            ("maxRetries", http.max_retries),
            ("maxConcurrentStreams", http.max_concurrent_streams),
        ] {
            check_count(problems, &format!("{field}.{name}"), number);
        }
        check_duration(problems, &format!("{field}.idleTimeout"), http.idle_timeout);
        problems.require(
            !(http.use_client_protocol && http.h2_upgrade_policy.as_deref() == Some("UPGRADE")),
            format!("{field}.useClientProtocol"),
            "must not be true when h2UpgradePolicy is UPGRADE",
        );
        if let Some(keepalive) = &http.http2_keepalive {
            for (name, duration) in [("interval", keepalive.interval), ("timeout", keepalive.timeout)] {
                let field = format!("{field}.http2KeepAlive.{name}");
                problems.require(duration.is_some(), &field, "is required");
                check_duration(problems, &field, duration);
            }
        }
    }
    if let Some(tcp) = &pool.tcp {
        let field = format!("{field}.tcp");
        check_count(problems, &format!("{field}.maxConnections"), tcp.max_connections);
        check_duration(problems, &format!("{field}.connectTimeout"), tcp.connect_timeout);
        check_duration(
            problems,
            &format!("{field}.maxConnectionDuration"),
            tcp.max_connection_duration,
        );
        // Zero switches it off.
        let idle = tcp.idle_timeout.filter(|timeout| !timeout.is_zero());
        check_duration(problems, &format!("{field}.idleTimeout"), idle);
        if let Some(keepalive) = &tcp.tcp_keepalive {
            check_duration(problems, &format!("{field}.tcpKeepalive.time"), keepalive.time);
            check_duration(problems, &format!("{field}.tcpKeepalive.interval"), keepalive.interval);
        }
    }
}

fn check_tls(field: &str, tls: Option<&ClientTls>, of: &str, problems: &mut Problems) {
    let Some(tls) = tls else { return };
    let files = !tls.client_certificate.is_empty() || !tls.private_key.is_empty() || !tls.ca_certificates.is_empty();
    let named = !tls.credential_name.is_empty();
    if let Some(reference) = tls.credential_name.strip_prefix(CONFIG_MAP) {
        let (namespace, name) = reference.split_once('/').unwrap_or((of, reference));
        problems.require(
            namespace == of && !name.is_empty(),
            format!("{field}.credentialName"),
            format!("a ConfigMap is of the rule's own namespace {of:?}"),
        );
    }
    let simple = tls.mode == "SIMPLE";
    let mutual = tls.mode == "MUTUAL";
    if tls.insecure_skip_verify == Some(true) && (simple || mutual) {
        let verifies = !tls.ca_certificates.is_empty() || !tls.subject_alt_names.is_empty() || (simple && named);
        problems.require(
            !verifies,
            format!("{field}.insecureSkipVerify"),
            "nobody is verified, so caCertificates, subjectAltNames and the credential of a CA mean nothing",
        );
    }
    if (simple || mutual) && named {
        problems.require(
            !files && tls.ca_crl.is_empty(),
            field,
            "credentialName cannot be combined with certificate files",
        );
    } else if mutual {
        problems.require(
            !tls.client_certificate.is_empty(),
            format!("{field}.clientCertificate"),
            "client certificate required for mutual TLS",
        );
        problems.require(
            !tls.private_key.is_empty(),
            format!("{field}.privateKey"),
            "private key required for mutual TLS",
        );
    }
}
