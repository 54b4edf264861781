//! Validation of injection annotations (revisions.md §5.8): a mistake refuses the pod instead of surprising later.

use api::names::annotation::PROXY_CONFIG;
use revision::decision::asked;
use revision::webhook::INJECT_KEY;
use serde_json::Value;

use crate::injector::strings;
use crate::proxy_config;

/// An annotation with a value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value '{value}' for annotation '{name}': {why}")]
pub struct AnnotationError {
    /// Name of the annotation.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
}

type Check = fn(&str) -> Result<(), String>;

const CHECKS: [(&str, Check); 21] = [
    ("sidecar.istio.io/interceptionMode", interception_mode),
    ("status.sidecar.istio.io/port", status_port),
    ("readiness.status.sidecar.istio.io/initialDelaySeconds", seconds),
    ("readiness.status.sidecar.istio.io/periodSeconds", seconds),
    ("readiness.status.sidecar.istio.io/failureThreshold", seconds),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", included_ranges),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", excluded_ranges),
    ("traffic.sidecar.istio.io/includeInboundPorts", ports_or_all),
    ("traffic.sidecar.istio.io/excludeInboundPorts", ports),
    ("traffic.sidecar.istio.io/includeOutboundPorts", ports),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", ports),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", anything),
    ("istio.io/reroute-virtual-interfaces", anything),
    ("traffic.sidecar.istio.io/excludeInterfaces", anything),
    ("prometheus.istio.io/merge-metrics", flag),
    (PROXY_CONFIG, proxy_config::validate),
    ("sidecar.istio.io/proxyCPU", quantity),
    ("sidecar.istio.io/proxyCPULimit", quantity),
    ("sidecar.istio.io/proxyMemory", quantity),
    ("sidecar.istio.io/proxyMemoryLimit", quantity),
    ("sidecar.istio.io/nativeSidecar", flag),
];

/// Checks every annotation that injection reads.
pub fn validate(annotations: &Value) -> Result<(), AnnotationError> {
    for (name, check) in CHECKS {
        let Some(value) = annotations.get(name).and_then(Value::as_str) else {
            continue;
        };
        check(value).map_err(|why| AnnotationError {
            name: name.to_owned(),
            value: value.to_owned(),
            why,
        })?;
    }
    Ok(())
}

/// What is in a pod's metadata and means nothing, in a sentence each: it refuses no pod, but somebody had a purpose.
pub fn warnings(metadata: &Value) -> Vec<String> {
    let own = metadata["annotations"].get(PROXY_CONFIG).and_then(Value::as_str);
    let unknown = own.map(proxy_config::unknown).unwrap_or_default();
    let sentences = unknown
        .iter()
        .map(|field| format!("annotation {PROXY_CONFIG}: {field}"));
    sentences.chain(undecided(metadata)).collect()
}

/// A value of `sidecar.istio.io/inject` that decides nothing (revisions.md §5.1).
fn undecided(metadata: &Value) -> Option<String> {
    let (labels, annotations) = (strings(&metadata["labels"]), strings(&metadata["annotations"]));
    let value = asked(&labels, &annotations).filter(|value| !matches!(*value, "true" | "false" | ""))?;
    let place = if labels.contains_key(INJECT_KEY) {
        "label"
    } else {
        "annotation"
    };
    Some(format!(
        "{place} {INJECT_KEY}: {value:?} decides nothing, only \"true\" and \"false\" do; the policy of the injector does"
    ))
}

fn anything(_: &str) -> Result<(), String> {
    Ok(())
}

fn interception_mode(value: &str) -> Result<(), String> {
    match value {
        "REDIRECT" | "TPROXY" | "NONE" => Ok(()),
        _ => Err("interceptionMode invalid, use REDIRECT, TPROXY or NONE".to_owned()),
    }
}

fn status_port(value: &str) -> Result<(), String> {
    port(value).map_err(|_| "port number must be between 0 and 65535".to_owned())
}

fn seconds(value: &str) -> Result<(), String> {
    value.parse::<u32>().map(drop).map_err(|error| error.to_string())
}

fn flag(value: &str) -> Result<(), String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(()),
        _ => Err("use true or false".to_owned()),
    }
}

fn port(value: &str) -> Result<(), String> {
    value
        .trim()
        .parse::<u16>()
        .map(drop)
        .map_err(|error| format!("port {value:?}: {error}"))
}

fn ports(value: &str) -> Result<(), String> {
    value
        .split(',')
        .filter(|item| !item.trim().is_empty())
        .try_for_each(port)
}

fn ports_or_all(value: &str) -> Result<(), String> {
    if value == "*" { Ok(()) } else { ports(value) }
}

fn included_ranges(value: &str) -> Result<(), String> {
    if value == "*" {
        Ok(())
    } else {
        ranges(value).map_err(|why| format!("includeIPRanges invalid: {why}"))
    }
}

fn excluded_ranges(value: &str) -> Result<(), String> {
    ranges(value).map_err(|why| format!("excludeIPRanges invalid: {why}"))
}

fn ranges(value: &str) -> Result<(), String> {
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    for item in items {
        let parts = item
            .split_once('/')
            .map(|(address, bits)| (address.parse::<std::net::IpAddr>(), bits.parse::<u8>()));
        let valid = matches!(parts, Some((Ok(address), Ok(bits))) if bits <= if address.is_ipv4() { 32 } else { 128 });
        if !valid {
            return Err(format!("invalid CIDR address: {item}"));
        }
    }
    Ok(())
}

/// Kubernetes' quantity: a decimal number with an optional suffix.
fn quantity(value: &str) -> Result<(), String> {
    const SUFFIXES: [&str; 16] = [
        "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "n", "u", "m", "k", "M", "G", "T", "P", "E", "",
    ];
    let number = SUFFIXES.iter().find_map(|suffix| value.strip_suffix(suffix));
    match number.map(str::parse::<f64>) {
        Some(Ok(number)) if number >= 0.0 && number.is_finite() => Ok(()),
        _ => Err(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(name: &str, value: &str, expected: bool) {
        assert_eq!(validate(&json!({ name: value })).is_ok(), expected, "{name}={value}");
    }

    #[test]
    fn values_are_checked() {
        check("sidecar.istio.io/interceptionMode", "TPROXY", true);
        check("sidecar.istio.io/interceptionMode", "tproxy", false);
        check("traffic.sidecar.istio.io/includeOutboundIPRanges", "*", true);
        check(
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "10.0.0.0/8,fd00::/8",
            true,
        );
        check("traffic.sidecar.istio.io/excludeOutboundIPRanges", "bad", false);
        check("traffic.sidecar.istio.io/excludeOutboundPorts", "80,bad", false);
        check("traffic.sidecar.istio.io/includeInboundPorts", "", true);
        check("sidecar.istio.io/proxyCPU", "100m", true);
        check("sidecar.istio.io/proxyMemory", "lots", false);
        check("proxy.istio.io/config", "concurrency: 2", true);
        check("proxy.istio.io/config", "nonsense", false);
    }
}
