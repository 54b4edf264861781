//! Destination rules.

use std::collections::BTreeSet;

use api::networking::DestinationRule;
use api::networking::destination_rule::{ClientTls, LoadBalancer, OutlierDetection};

use super::field::{Problems, check_export_to, check_host, check_port_number};

pub(super) fn check(rule: &DestinationRule, problems: &mut Problems) {
    check_host(problems, "spec.host", &rule.host);
    if let Some(policy) = &rule.traffic_policy {
        let parts = (
            policy.load_balancer.as_ref(),
            policy.outlier_detection.as_ref(),
            policy.tls.as_ref(),
        );
        check_parts("spec.trafficPolicy", parts, problems);
        for (index, port) in policy.port_level_settings.iter().enumerate() {
            let field = format!("spec.trafficPolicy.portLevelSettings[{index}]");
            match &port.port {
                Some(selector) => check_port_number(problems, &format!("{field}.port.number"), selector.number.0),
                None => problems.add(format!("{field}.port"), "a port is required"),
            }
            let parts = (
                port.load_balancer.as_ref(),
                port.outlier_detection.as_ref(),
                port.tls.as_ref(),
            );
            check_parts(&field, parts, problems);
        }
    }
    let mut names = BTreeSet::new();
    for (index, subset) in rule.subsets.iter().enumerate() {
        let field = format!("spec.subsets[{index}]");
        problems.require(
            !subset.name.is_empty(),
            format!("{field}.name"),
            "a subset needs a name",
        );
        problems.require(
            names.insert(&subset.name),
            format!("{field}.name"),
            format!("duplicate subset {:?}", subset.name),
        );
        if let Some(policy) = &subset.traffic_policy {
            let parts = (
                policy.load_balancer.as_ref(),
                policy.outlier_detection.as_ref(),
                policy.tls.as_ref(),
            );
            check_parts(&format!("{field}.trafficPolicy"), parts, problems);
        }
    }
    check_export_to(problems, &rule.export_to);
}

type Parts<'a> = (
    Option<&'a LoadBalancer>,
    Option<&'a OutlierDetection>,
    Option<&'a ClientTls>,
);

fn check_parts(field: &str, (balancer, outliers, tls): Parts<'_>, problems: &mut Problems) {
    if let Some(balancer) = balancer {
        check_balancer(&format!("{field}.loadBalancer"), balancer, problems);
    }
    if let Some(outliers) = outliers {
        let percentages = [
            ("maxEjectionPercent", outliers.max_ejection_percent),
            ("minHealthPercent", outliers.min_health_percent),
        ];
        for (name, percent) in percentages {
            let valid = percent.is_none_or(|percent| (0..=100).contains(&percent.0));
            problems.require(
                valid,
                format!("{field}.outlierDetection.{name}"),
                "must be between 0 and 100",
            );
        }
    }
    if let Some(tls) = tls {
        check_tls(&format!("{field}.tls"), tls, problems);
    }
}

fn check_balancer(field: &str, balancer: &LoadBalancer, problems: &mut Problems) {
    if let Some(hash) = &balancer.consistent_hash {
        let keys = [
            hash.http_header_name.is_some(),
            hash.http_cookie.is_some(),
            hash.use_source_ip.is_some(),
            hash.http_query_parameter_name.is_some(),
        ];
        problems.require(
            keys.iter().filter(|key| **key).count() == 1,
            format!("{field}.consistentHash"),
            "exactly one hash key is required",
        );
        problems.require(
            balancer.simple.is_none(),
            field,
            "only one of simple and consistentHash can be set",
        );
    }
    if let Some(warmup) = &balancer.warmup {
        problems.require(
            warmup.duration.is_some(),
            format!("{field}.warmup.duration"),
            "Required value",
        );
        let aggression = warmup.aggression.is_none_or(|aggression| aggression.0 >= 1.0);
        problems.require(
            aggression,
            format!("{field}.warmup.aggression"),
            "Invalid value: must be at least 1",
        );
        let percent = warmup
            .minimum_percent
            .is_none_or(|percent| (0.0..=100.0).contains(&percent.0));
        problems.require(
            percent,
            format!("{field}.warmup.minimumPercent"),
            "Invalid value: must be between 0 and 100",
        );
    }
    if let Some(locality) = &balancer.locality_lb_setting {
        let ways = [!locality.distribute.is_empty(), !locality.failover.is_empty()];
        problems.require(
            ways != [true, true],
            format!("{field}.localityLbSetting"),
            "can not simultaneously specify 'distribute' and 'failover'",
        );
        for (index, distribute) in locality.distribute.iter().enumerate() {
            let total: u64 = distribute.to.values().map(|weight| u64::from(weight.0)).sum();
            problems.require(
                total == 100,
                format!("{field}.localityLbSetting.distribute[{index}].to"),
                format!("total locality weight {total} != 100"),
            );
        }
    }
}

fn check_tls(field: &str, tls: &ClientTls, problems: &mut Problems) {
    let files = !tls.client_certificate.is_empty() || !tls.private_key.is_empty() || !tls.ca_certificates.is_empty();
    match tls.mode.as_str() {
        "MUTUAL" if tls.credential_name.is_empty() => {
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
        "ISTIO_MUTUAL" => problems.require(
            !files && tls.credential_name.is_empty(),
            field,
            "ISTIO_MUTUAL uses the mesh's own certificates; leave the others out",
        ),
        "" | "DISABLE" | "SIMPLE" | "MUTUAL" => {
            problems.require(
                !files || tls.credential_name.is_empty(),
                field,
                "credentialName cannot be combined with certificate files",
            );
        }
        other => problems.add(format!("{field}.mode"), format!("unknown TLS mode {other:?}")),
    }
}
