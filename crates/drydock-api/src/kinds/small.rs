//! Validation of leases, events, endpoints, quotas, claims.

use serde_json::{Value, json};

use super::{list, names, text};
use crate::field::FieldError;

/// Problems of an object of these kinds.
pub fn validate(_group: &str, kind: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match kind {
        "Lease" => lease(object),
        "EndpointSlice" => slice(object, old),
        "Endpoints" => endpoints(object),
        _ => Vec::new(),
    }
}

fn lease(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", &spec["leaseDurationSeconds"], "must be greater than 0"));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|count| count < 0) {
        errors.push(FieldError::invalid(
            "spec.leaseTransitions",
            &spec["leaseTransitions"],
            "must be greater than or equal to 0",
        ));
    }
    errors
}

fn slice(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = text(object, "/addressType");
    if kind.is_empty() {
        errors.push(FieldError::required("addressType", ""));
    } else if !matches!(kind, "FQDN" | "IPv4" | "IPv6") {
        errors.push(FieldError::not_supported("addressType", &object["addressType"], &["FQDN", "IPv4", "IPv6"]));
    }
    for (index, endpoint) in list(object, "/endpoints").iter().enumerate() {
        let path = format!("endpoints[{index}]");
        let addresses = list(endpoint, "/addresses");
        if addresses.is_empty() {
            errors.push(FieldError::required(format!("{path}.addresses"), "must contain at least 1 address"));
        }
        for (at, address) in addresses.iter().enumerate() {
            let text = address.as_str().unwrap_or_default();
            let problem = match kind {
                "IPv4" if text.parse::<std::net::Ipv4Addr>().is_err() => Some("must be an IPv4 address".to_owned()),
                "IPv6" if text.parse::<std::net::Ipv6Addr>().is_err() => Some("must be an IPv6 address".to_owned()),
                "FQDN" => names::dns_subdomain(text),
                _ => None,
            };
            if let Some(problem) = problem {
                errors.push(FieldError::invalid(format!("{path}.addresses[{at}]"), address, problem));
            }
        }
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in list(object, "/ports").iter().enumerate() {
        let path = format!("ports[{index}]");
        let name = text(port, "/name");
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), &json!(name)));
        }
        if !name.is_empty()
            && let Some(problem) = names::dns_label(name)
        {
            errors.push(FieldError::invalid(format!("{path}.name"), &port["name"], problem));
        }
        seen.push(name);
        if !matches!(text(port, "/protocol"), "TCP" | "UDP" | "SCTP") {
            errors.push(FieldError::not_supported(format!("{path}.protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]));
        }
    }
    if let Some(old) = old
        && object["addressType"] != old["addressType"]
    {
        errors.push(FieldError::invalid("addressType", &object["addressType"], "field is immutable"));
    }
    errors
}

fn endpoints(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, subset) in list(object, "/subsets").iter().enumerate() {
        let path = format!("subsets[{index}]");
        let (ready, waiting) = (list(subset, "/addresses"), list(subset, "/notReadyAddresses"));
        if ready.is_empty() && waiting.is_empty() {
            errors.push(FieldError::required(path.clone(), "must specify `addresses` or `notReadyAddresses`"));
        }
        for (name, addresses) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            for (at, address) in addresses.iter().enumerate() {
                if text(address, "/ip").parse::<std::net::IpAddr>().is_err() {
                    errors.push(FieldError::invalid(
                        format!("{path}.{name}[{at}].ip"),
                        &address["ip"],
                        "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                    ));
                }
            }
        }
        let ports = list(subset, "/ports");
        for (at, port) in ports.iter().enumerate() {
            let path = format!("{path}.ports[{at}]");
            if ports.len() > 1 && text(port, "/name").is_empty() {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
            if !port["port"].as_i64().is_some_and(|number| (1..=65535).contains(&number)) {
                errors.push(FieldError::invalid(
                    format!("{path}.port"),
                    &json!(port["port"].as_i64().unwrap_or(0)),
                    "must be between 1 and 65535, inclusive",
                ));
            }
        }
    }
    errors
}
