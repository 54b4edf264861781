//! Cells of networking kinds.

use serde_json::{Value, json};

use super::{age, workload_cells::label_text};
use crate::{kinds::selector_text, meta};

/// Endpoints shown before `+ N more...`.
const SHOWN: usize = 3;

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn or_none(text: String) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

pub fn cells(kind: &str, object: &Value) -> Vec<Value> {
    let mut cells = vec![json!(meta::name(object))];
    match kind {
        "Service" => cells.extend(service(object)),
        "Endpoints" => cells.extend([endpoints(object), age(object).into()]),
        "Ingress" => {
            let class = text(object, "/spec/ingressClassName");
            let ports = if list(object, "/spec/tls").is_empty() {
                "80"
            } else {
                "80, 443"
            };
            cells.extend([
                or_none(class.to_owned()),
                hosts(object),
                load_balancer(object).into(),
                ports.into(),
                age(object).into(),
            ]);
        }
        "IngressClass" => {
            let parameters = &object["spec"]["parameters"];
            let shown = if parameters.is_object() {
                let kind = text(parameters, "/kind");
                let kind = match text(parameters, "/apiGroup") {
                    "" => kind.to_owned(),
                    group => format!("{kind}.{group}"),
                };
                format!("{kind}/{}", text(parameters, "/name"))
            } else {
                String::new()
            };
            cells.extend([
                text(object, "/spec/controller").into(),
                or_none(shown),
                age(object).into(),
            ]);
        }
        "NetworkPolicy" => {
            cells.extend([
                or_none(selector_text(&object["spec"]["podSelector"])),
                age(object).into(),
            ]);
        }
        "EndpointSlice" => cells.extend(slice(object)),
        _ => {
            return vec![
                json!(meta::name(object)),
                object
                    .pointer("/metadata/creationTimestamp")
                    .cloned()
                    .unwrap_or_default(),
            ];
        }
    }
    cells
}

fn load_balancer(object: &Value) -> String {
    let mut addresses: Vec<&str> = list(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|ingress| match text(ingress, "/ip") {
            "" => text(ingress, "/hostname"),
            ip => ip,
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.join(",")
}

fn service(service: &Value) -> Vec<Value> {
    let kind = text(service, "/spec/type");
    let cluster = match text(service, "/spec/clusterIP") {
        "" => "<none>",
        ip => ip,
    };
    let external: Vec<&str> = list(service, "/spec/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let external = match kind {
        "ClusterIP" | "NodePort" => or_none(external.join(",")),
        "LoadBalancer" => {
            let mut all = load_balancer(service);
            if !external.is_empty() {
                if !all.is_empty() {
                    all.push(',');
                }
                all.push_str(&external.join(","));
            }
            if all.is_empty() { "<pending>".into() } else { all.into() }
        }
        "ExternalName" => text(service, "/spec/externalName").into(),
        _ => "<unknown>".into(),
    };
    let ports: Vec<String> = list(service, "/spec/ports")
        .iter()
        .map(|port| {
            let number = port["port"].as_i64().unwrap_or(0);
            let protocol = text(port, "/protocol");
            match port["nodePort"].as_i64() {
                Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        })
        .collect();
    vec![
        kind.into(),
        cluster.into(),
        external,
        or_none(ports.join(",")),
        age(service).into(),
        label_text(&service["spec"]["selector"]),
    ]
}

fn hosts(ingress: &Value) -> Value {
    let mut hosts: Vec<&str> = Vec::new();
    for rule in list(ingress, "/spec/rules") {
        let host = text(rule, "/host");
        if !host.is_empty() && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    match hosts.len() {
        0 => "*".into(),
        count if count > SHOWN => format!("{} + {} more...", hosts[..SHOWN].join(","), count - SHOWN).into(),
        _ => hosts.join(",").into(),
    }
}

fn endpoints(object: &Value) -> Value {
    let mut shown: Vec<String> = Vec::new();
    let mut count = 0;
    for subset in list(object, "/subsets") {
        let ports = list(subset, "/ports");
        for address in list(subset, "/addresses") {
            let ip = text(address, "/ip");
            let targets: Vec<String> = if ports.is_empty() {
                vec![ip.to_owned()]
            } else {
                ports
                    .iter()
                    .map(|port| format!("{ip}:{}", port["port"].as_i64().unwrap_or(0)))
                    .collect()
            };
            count += targets.len();
            shown.extend(targets.into_iter().take(SHOWN.saturating_sub(shown.len())));
        }
    }
    more(shown, count)
}

fn more(shown: Vec<String>, count: usize) -> Value {
    let hidden = count - shown.len();
    let text = shown.join(",");
    match (hidden, text.is_empty()) {
        (_, true) => "<none>".into(),
        (0, _) => text.into(),
        (hidden, _) => format!("{text} + {hidden} more...").into(),
    }
}

fn slice(slice: &Value) -> Vec<Value> {
    let ports = list(slice, "/ports");
    let port_text = if ports.is_empty() {
        "<unset>".into()
    } else {
        let all: Vec<String> = ports
            .iter()
            .map(|port| {
                port["port"]
                    .as_i64()
                    .map_or_else(|| "*".to_owned(), |number| number.to_string())
            })
            .collect();
        let shown: Vec<String> = all.iter().take(SHOWN).cloned().collect();
        more(shown, all.len())
    };
    let all: Vec<&str> = list(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "/addresses"))
        .filter_map(Value::as_str)
        .collect();
    let shown: Vec<String> = all.iter().take(SHOWN).map(|&ip| ip.to_owned()).collect();
    let endpoints = if all.is_empty() {
        "<unset>".into()
    } else {
        more(shown, all.len())
    };
    vec![
        text(slice, "/addressType").into(),
        port_text,
        endpoints,
        age(slice).into(),
    ]
}
