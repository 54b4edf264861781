//! Validation of injection annotations (revisions.md §5.8): a mistake refuses the pod instead of surprising later.

use std::net::IpAddr;
use std::num::ParseIntError;
use std::str::FromStr;

use api::names::annotation::PROXY_CONFIG;
use revision::decision::asked;
use revision::webhook::INJECT_KEY;
use serde_json::Value;

use crate::injector::strings;
use crate::{metrics, proxy_config};

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

/// Pods ask for templates here.
pub(crate) const TEMPLATES: &str = "inject.istio.io/templates";
/// Most templates that a pod asks for. Each is rendered and merged, and an annotation has room for 100,000 names.
const MOST_TEMPLATES: usize = 32;

const CHECKS: [(&str, Check); 21] = [
    (TEMPLATES, templates),
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
    ("traffic.sidecar.istio.io/kubevirtInterfaces", interfaces),
    ("istio.io/reroute-virtual-interfaces", interfaces),
    ("traffic.sidecar.istio.io/excludeInterfaces", interfaces),
    ("prometheus.istio.io/merge-metrics", flag),
    (PROXY_CONFIG, proxy_config::validate),
    ("sidecar.istio.io/proxyCPU", quantity),
    ("sidecar.istio.io/proxyCPULimit", quantity),
    ("sidecar.istio.io/proxyMemory", quantity),
    ("sidecar.istio.io/proxyMemoryLimit", quantity),
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

fn templates(value: &str) -> Result<(), String> {
    let count = value.split(',').count();
    if count > MOST_TEMPLATES {
        return Err(format!(
            "names {count} templates; at most {MOST_TEMPLATES} are rendered for a pod"
        ));
    }
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
    whole::<u32>(value)
}

fn flag(value: &str) -> Result<(), String> {
    metrics::flag(value)
        .map(drop)
        .ok_or_else(|| "use true or false".to_owned())
}

/// A number of digits only.
fn whole<T: FromStr<Err = ParseIntError>>(value: &str) -> Result<(), String> {
    if value.starts_with('+') {
        return Err("invalid digit found in string".to_owned());
    }
    value.parse::<T>().map(drop).map_err(|error| error.to_string())
}

fn port(value: &str) -> Result<(), String> {
    whole::<u16>(value.trim()).map_err(|error| format!("port {value:?}: {error}"))
}

/// Nothing, or ports with commas between them.
fn ports(value: &str) -> Result<(), String> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(());
    }
    value.split(',').try_for_each(port)
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
    if value.is_empty() {
        return Ok(());
    }
    for item in value.split(',') {
        let range = item.split_once('/').and_then(|(address, bits)| {
            let (address, length): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
            // Neither `/+8` nor `/08`.
            (bits == length.to_string()).then_some((address, length))
        });
        if range.is_none_or(|(address, bits)| bits > if address.is_ipv4() { 32 } else { 128 }) {
            return Err(format!("invalid CIDR address: {item}"));
        }
    }
    Ok(())
}

/// Nothing, or names of network interfaces with commas between them.
///
/// They become arguments of the program that redirects traffic, so nothing else can be in them.
fn interfaces(value: &str) -> Result<(), String> {
    // What Linux gives a name.
    const LONGEST: usize = 15;
    if value.is_empty() {
        return Ok(());
    }
    value.split(',').map(str::trim).try_for_each(|name| {
        if name.is_empty() {
            return Err("empty interface name".to_owned());
        }
        if name.len() > LONGEST {
            return Err(format!("interface name {name:?} too long (max {LONGEST} chars)"));
        }
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !begins || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
            return Err(format!("interface name {name:?} contains invalid characters"));
        }
        Ok(())
    })
}

/// Kubernetes' quantity: a decimal number with a suffix or an exponent, or neither.
fn quantity(value: &str) -> Result<(), String> {
    const SUFFIXES: [&str; 16] = [
        "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "n", "u", "m", "k", "M", "G", "T", "P", "E", "",
    ];
    let unsigned = value.strip_prefix(['+', '-']).unwrap_or(value);
    let (number, suffix) = unsigned.split_at(
        unsigned
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(unsigned.len()),
    );
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .map(|power| power.strip_prefix(['+', '-']).unwrap_or(power));
    let fits = !(whole.is_empty() && fraction.is_empty())
        && digits(whole)
        && digits(fraction)
        && (SUFFIXES.contains(&suffix) || exponent.is_some_and(|power| !power.is_empty() && digits(power)));
    if fits {
        return Ok(());
    }
    Err("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned())
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
        check("traffic.sidecar.istio.io/includeInboundPorts", "80, 81", true);
        check("traffic.sidecar.istio.io/excludeInboundPorts", "80,", false);
        check("traffic.sidecar.istio.io/excludeInboundPorts", "+80", false);
        check("traffic.sidecar.istio.io/excludeOutboundPorts", "65536", false);
        check("readiness.status.sidecar.istio.io/periodSeconds", "+1", false);
        check("readiness.status.sidecar.istio.io/periodSeconds", "30", true);
        check("prometheus.istio.io/merge-metrics", "F", true);
        check("prometheus.istio.io/merge-metrics", "no", false);
        for (ranges, fits) in [
            ("", true),
            ("10.0.0.0/8,fd00::/8", true),
            ("10.0.0.0/8,", false),
            ("10.0.0.0/8, fd00::/8", false),
            ("10.0.0.0/33", false),
            ("10.0.0.0/08", false),
            ("10.0.0.0", false),
            ("*", false),
        ] {
            check("traffic.sidecar.istio.io/excludeOutboundIPRanges", ranges, fits);
        }
    }

    #[test]
    fn a_pod_asks_for_so_many_templates_at_most() {
        check(TEMPLATES, "sidecar, grpc-agent", true);
        check(TEMPLATES, &vec!["sidecar"; MOST_TEMPLATES].join(","), true);
        check(TEMPLATES, &vec!["sidecar"; MOST_TEMPLATES + 1].join(","), false);
    }

    #[test]
    fn quantities_are_kubernetes_s() {
        for (amount, fits) in [
            ("1", true),
            ("0.5", true),
            (".5", true),
            ("5.", true),
            ("128Mi", true),
            ("1e3", true),
            ("1E-3", true),
            ("2E", true),
            ("", false),
            (".", false),
            ("inf", false),
            ("1.2.3", false),
            ("1 Gi", false),
            ("1Kb", false),
            ("1e", false),
            ("128Mi\n", false),
            ("100m\"\n  - name: more", false),
        ] {
            check("sidecar.istio.io/proxyCPULimit", amount, fits);
        }
    }

    #[test]
    fn interfaces_are_names_and_nothing_else() {
        for annotation in [
            "traffic.sidecar.istio.io/excludeInterfaces",
            "traffic.sidecar.istio.io/kubevirtInterfaces",
            "istio.io/reroute-virtual-interfaces",
        ] {
            for (names, fits) in [
                ("", true),
                ("eth0", true),
                ("net1 , bond0.100,br-a_b", true),
                ("abcdefghijklmno", true),
                ("abcdefghijklmnop", false),
                ("eth0,,eth1", false),
                ("0eth", false),
                ("eth0 -j ACCEPT", false),
                ("eth0;reboot", false),
                ("veth@if3", false),
            ] {
                check(annotation, names, fits);
            }
        }
        check("proxy.istio.io/config", "concurrency: 2", true);
        check("proxy.istio.io/config", "nonsense", false);
    }
}
