//! Ports and IP ranges in a merged specification.

use std::net::IpAddr;

use serde_json::Value;

use super::Mistake;
use crate::schema::Path;

/// Below this number only root may listen.
const FIRST_FREE: i64 = 1024;

/// Lists of gateways, with the values that apply to all of one.
const GATEWAYS: [(&str, &str); 2] = [
    ("ingressGateways", "istio-ingressgateway"),
    ("egressGateways", "istio-egressgateway"),
];

/// Ports that the gateways cannot listen on, and lists of ports and ranges that are none.
pub(super) fn mistakes(spec: &Value) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (list, values) in GATEWAYS {
        let root = spec.pointer(&format!("/values/gateways/{values}/runAsRoot"));
        if root.and_then(Value::as_bool) == Some(true) {
            continue;
        }
        let entries = spec.pointer(&format!("/components/{list}")).and_then(Value::as_array);
        for (index, entry) in entries.into_iter().flatten().enumerate() {
            let path = Path::of(&["spec", "components", list]).item(index);
            let path = path.field("k8s").field("service").field("ports");
            let ports = entry.pointer("/k8s/service/ports");
            let name = entry.get("name").and_then(Value::as_str).unwrap_or(values);
            mistakes.extend(low_ports(ports, &path, Some(name), values));
        }
    }
    // These are the ingress gateway's, also where it is root.
    let (_, values) = GATEWAYS[0];
    let path = Path::of(&["spec", "values", "gateways", values, "ingressPorts"]);
    let ports = spec.pointer(&format!("/values/gateways/{values}/ingressPorts"));
    mistakes.extend(low_ports(ports, &path, None, values));

    let proxy = |name: &str| {
        let value = spec.pointer(&format!("/values/global/proxy/{name}")).map(as_text);
        let path = Path::of(&["spec", "values", "global", "proxy", name]);
        (value.unwrap_or_default(), path)
    };
    for name in ["includeIPRanges", "excludeIPRanges"] {
        let (text, path) = proxy(name);
        if text.is_empty() || text == "*" {
            continue;
        }
        let wrong = text.split(',').filter(|range| !is_range(range));
        mistakes.extend(wrong.map(|range| Mistake::Range {
            path: path.clone(),
            range: range.to_owned(),
        }));
    }
    for name in [
        "includeInboundPorts",
        "excludeInboundPorts",
        "includeOutboundPorts",
        "excludeOutboundPorts",
    ] {
        let (text, path) = proxy(name);
        let wrong = text.split(',').filter(|port| {
            !port.is_empty() && *port != "*" && !port.parse::<i64>().is_ok_and(|port| (0..=65535).contains(&port))
        });
        mistakes.extend(wrong.map(|port| Mistake::Port {
            path: path.clone(),
            port: port.to_owned(),
        }));
    }
    mistakes
}

fn low_ports(ports: Option<&Value>, path: &Path, gateway: Option<&str>, values: &'static str) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (index, entry) in ports.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let target = match entry.get("targetPort") {
            // A name is looked up in the container.
            Some(Value::String(_)) => continue,
            target => target.and_then(Value::as_i64).unwrap_or_default(),
        };
        let Some(port) = entry.get("port").and_then(Value::as_i64) else {
            continue;
        };
        // Without a target the port itself is meant.
        if target >= FIRST_FREE || (target == 0 && port > FIRST_FREE) {
            continue;
        }
        let port = match (gateway, entry.get("name").and_then(Value::as_str)) {
            (Some(gateway), name) => format!("{}/{port} in gateway {gateway}", name.unwrap_or_default()),
            (None, _) => format!("{port} is"),
        };
        mistakes.push(Mistake::LowPort {
            path: path.item(index),
            port,
            target,
            values,
        });
    }
    mistakes
}

/// `10.0.0.0/8`.
fn is_range(text: &str) -> bool {
    let parts = text.split_once('/');
    let parts = parts.and_then(|(address, bits)| Some((address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?)));
    parts.is_some_and(|(address, bits)| bits <= if address.is_ipv4() { 32 } else { 128 })
}

/// A list with one port may have been written as a number.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, expected: &[&str]) {
        let mistakes: Vec<String> = mistakes(&spec).iter().map(ToString::to_string).collect();
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn a_gateway_listens_where_it_may() {
        let gateway = |port: Value| json!([{"name": "edge", "k8s": {"service": {"ports": [{"name": "status", "port": 15021}, port]}}}]);
        let told = |target: &str, values: &str| {
            format!(
                "port http/80 in gateway edge invalid: targetPort is set to {target}, which requires root. Set targetPort to \
                 be greater than 1024 or configure values.gateways.{values}.runAsRoot=true"
            )
        };
        let port = json!({"name": "http", "port": 80});
        check(
            json!({"components": {"ingressGateways": gateway(port.clone())}}),
            &[&told("0", "istio-ingressgateway")],
        );
        let low = json!({"name": "http", "port": 80, "targetPort": 90});
        check(
            json!({"components": {"egressGateways": gateway(low.clone())}}),
            &[&told("90", "istio-egressgateway")],
        );
        for fine in [
            json!({"port": 80, "targetPort": 8080}),
            json!({"port": 80, "targetPort": "http"}),
            json!({"port": 8080}),
        ] {
            check(json!({"components": {"ingressGateways": gateway(fine)}}), &[]);
        }
        check(
            json!({"components": {"ingressGateways": gateway(low)},
                "values": {"gateways": {"istio-ingressgateway": {"runAsRoot": true}}}}),
            &[],
        );
        check(
            json!({"values": {"gateways": {"istio-ingressgateway": {"ingressPorts": [{"port": 80}, {"port": 81, "targetPort": 8081}]}}}}),
            &[
                "port 80 is invalid: targetPort is set to 0, which requires root. Set targetPort to be greater than 1024 or \
               configure values.gateways.istio-ingressgateway.runAsRoot=true",
            ],
        );
    }

    #[test]
    fn ranges_and_ports_are_checked_one_by_one() {
        check(
            json!({"values": {"global": {"proxy": {
                "includeIPRanges": "*,10.0.0.0/8,1.1.0.256/16", "excludeIPRanges": "3.3.0.0/33",
                "excludeInboundPorts": "-1,444,222x", "includeInboundPorts": "*", "excludeOutboundPorts": 80,
            }}}}),
            &[
                "spec.values.global.proxy.includeIPRanges: \"*\" is no range of addresses like 10.0.0.0/8",
                "spec.values.global.proxy.includeIPRanges: \"1.1.0.256/16\" is no range of addresses like 10.0.0.0/8",
                "spec.values.global.proxy.excludeIPRanges: \"3.3.0.0/33\" is no range of addresses like 10.0.0.0/8",
                "spec.values.global.proxy.excludeInboundPorts: \"-1\" is no port between 0 and 65535",
                "spec.values.global.proxy.excludeInboundPorts: \"222x\" is no port between 0 and 65535",
            ],
        );
        check(
            json!({"values": {"global": {"proxy": {"includeIPRanges": "*", "excludeIPRanges": ""}}}}),
            &[],
        );
    }
}
