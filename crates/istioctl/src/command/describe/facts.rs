//! What concerns a pod or a Service, from the objects of a cluster.

use install::object::Object;
use serde_json::Value;

use crate::sides::{Pod, Sides};

/// Objects of a cluster, as far as they are needed.
#[derive(Debug, Default)]
pub struct Facts {
    /// Pods of the namespace.
    pub pods: Vec<Object>,
    /// Services of the namespace.
    pub services: Vec<Object>,
    /// Who injects what.
    pub sides: Sides,
    /// Istio's objects of all namespaces.
    pub configuration: Vec<Object>,
    /// Namespace of the control plane, whose policies hold everywhere.
    pub system: String,
}

impl Facts {
    /// Objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.configuration.iter().filter(move |object| object.kind() == kind)
    }

    /// Who injected a pod and would inject it now.
    pub fn side(&self, pod: &Object) -> Option<&Pod> {
        let is = |side: &&Pod| side.name == pod.name() && side.namespace == pod.namespace();
        self.sides.pods.iter().find(is)
    }

    /// Names of the objects of a kind that select a pod, or every pod of its namespace or of the mesh.
    pub fn selecting(&self, kind: &str, pod: &Object) -> Vec<String> {
        let found = self.of_kind(kind).filter(|policy| self.applies(policy, pod));
        found
            .map(|policy| format!("{}.{}", policy.name(), policy.namespace()))
            .collect()
    }

    fn applies(&self, policy: &Object, pod: &Object) -> bool {
        let here = policy.namespace() == pod.namespace() || policy.namespace() == self.system;
        let labels = policy.0.pointer("/spec/selector/matchLabels");
        let labels = labels.or_else(|| policy.0.pointer("/spec/workloadSelector/labels"));
        here && has_labels(pod, labels)
    }

    /// The mode of mutual TLS at a pod and where it is from: the most special that says one.
    pub fn mtls(&self, pod: &Object) -> (String, String) {
        let mut best: Option<(u8, &Object)> = None;
        for policy in self
            .of_kind("PeerAuthentication")
            .filter(|policy| self.applies(policy, pod))
        {
            let mode = policy.text("/spec/mtls/mode");
            if mode.is_empty() || mode == "UNSET" {
                continue;
            }
            let special = match policy.0.pointer("/spec/selector/matchLabels") {
                Some(labels) if labels.as_object().is_some_and(|labels| !labels.is_empty()) => 2,
                _ => u8::from(policy.namespace() == pod.namespace()),
            };
            if best.is_none_or(|(other, _)| special > other) {
                best = Some((special, policy));
            }
        }
        match best {
            Some((_, policy)) => (
                policy.text("/spec/mtls/mode").to_owned(),
                format!("PeerAuthentication {}.{}", policy.name(), policy.namespace()),
            ),
            None => (
                "PERMISSIVE".to_owned(),
                "no PeerAuthentication says otherwise".to_owned(),
            ),
        }
    }
}

fn array<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn string<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether an object has all of these labels; none are had by every object.
fn has_labels(object: &Object, labels: Option<&Value>) -> bool {
    let mut labels = labels.and_then(Value::as_object).into_iter().flatten();
    labels.all(|(key, value)| value.as_str() == Some(object.label(key)))
}

/// Whether a Service leads to a pod.
pub fn selects(service: &Object, pod: &Object) -> bool {
    let selector = service.0.pointer("/spec/selector");
    let any = selector
        .and_then(Value::as_object)
        .is_some_and(|selector| !selector.is_empty());
    any && service.namespace() == pod.namespace() && has_labels(pod, selector)
}

/// `8080 (web), 15090 (istio-proxy)`.
pub fn ports(pod: &Object) -> String {
    let containers = array(&pod.0, "/spec/initContainers").chain(array(&pod.0, "/spec/containers"));
    let ports = containers.flat_map(|container| {
        array(container, "/ports").map(|port| format!("{} ({})", port["containerPort"], string(container, "/name")))
    });
    ports.collect::<Vec<_>>().join(", ")
}

/// Ports with the protocol that the mesh takes them for.
pub fn service_ports(service: &Object) -> Vec<String> {
    let port = |port: &Value| {
        let name = string(port, "/name");
        let said = string(port, "/appProtocol");
        let said = if said.is_empty() {
            name.split('-').next().unwrap_or_default()
        } else {
            said
        };
        let known = [
            "http", "https", "http2", "grpc", "tcp", "tls", "mongo", "mysql", "redis", "udp", "grpc-web",
        ];
        let protocol = if known.contains(&said.to_ascii_lowercase().as_str()) {
            said.to_ascii_uppercase()
        } else {
            "found out for each connection; name it (http-…, tcp-…) to be sure".to_owned()
        };
        let target = match &port["targetPort"] {
            Value::Null => port["port"].to_string(),
            Value::String(name) => name.clone(),
            number => number.to_string(),
        };
        format!("{name} {} → pod port {target}, protocol {protocol}", port["port"])
    };
    array(&service.0, "/spec/ports").map(port).collect()
}

/// Whether a host as an object of a namespace writes it means a Service.
pub fn is_host(written: &str, namespace: &str, host: &str) -> bool {
    if written == host {
        return true;
    }
    if let Some(suffix) = written.strip_prefix('*') {
        return host.ends_with(suffix);
    }
    match written.split('.').count() {
        1 => format!("{written}.{namespace}.svc.cluster.local") == host,
        2 => format!("{written}.svc.cluster.local") == host,
        3 => format!("{written}.cluster.local") == host,
        _ => false,
    }
}

/// Subsets with whether a pod is in them, and the policy that a client gets.
pub fn subsets(rule: &Object, pod: Option<&Object>) -> Vec<String> {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for subset in array(&rule.0, "/spec/subsets") {
        let name = string(subset, "/name").to_owned();
        if pod.is_none_or(|pod| has_labels(pod, subset.get("labels"))) {
            inside.push(name);
        } else {
            outside.push(name);
        }
    }
    let mut lines = Vec::new();
    if !inside.is_empty() {
        let title = if pod.is_some() {
            "The pod is in subset"
        } else {
            "Subsets:"
        };
        lines.push(format!("{title} {}", inside.join(", ")));
    }
    if !outside.is_empty() {
        lines.push(format!("Not in subset {}", outside.join(", ")));
    }
    let mode = rule.text("/spec/trafficPolicy/tls/mode");
    if !mode.is_empty() {
        lines.push(format!("TLS mode of clients: {mode}"));
    }
    lines
}

/// Routes of a VirtualService that lead to a Service, a line for each.
pub fn routes(route: &Object, host: &str) -> Vec<String> {
    let hosts: Vec<&str> = array(&route.0, "/spec/hosts").filter_map(Value::as_str).collect();
    let gateways: Vec<&str> = array(&route.0, "/spec/gateways").filter_map(Value::as_str).collect();
    let place = if gateways.is_empty() {
        "mesh".to_owned()
    } else {
        gateways.join(", ")
    };
    let mut lines = Vec::new();
    for protocol in ["http", "tls", "tcp"] {
        for rule in array(&route.0, &format!("/spec/{protocol}")) {
            let to: Vec<String> = array(rule, "/route")
                .filter(|target| is_host(string(target, "/destination/host"), route.namespace(), host))
                .map(|target| {
                    let subset = string(target, "/destination/subset");
                    let weight = target["weight"].as_u64().unwrap_or(100);
                    format!(
                        "{}{weight}%",
                        if subset.is_empty() {
                            String::new()
                        } else {
                            format!("{subset} ")
                        }
                    )
                })
                .collect();
            if !to.is_empty() {
                let when = if array(rule, "/match").next().is_some() {
                    "some requests"
                } else {
                    "all requests"
                };
                lines.push(format!(
                    "{protocol} for {} at {place}: {when} → {}",
                    hosts.join(", "),
                    to.join(", ")
                ));
            }
        }
    }
    lines
}
