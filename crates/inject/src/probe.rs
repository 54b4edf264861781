//! Probes and lifecycle hooks through the agent (revisions.md §5.7).
//!
//! The kubelet has no certificate of the mesh, so its probes of a STRICT workload would fail. They are pointed at the
//! agent, which asks the application inside the pod; what to ask is told to the agent in `ISTIO_KUBE_APP_PROBERS`.

use serde_json::{Map, Value, json};

/// Environment variable that carries the original probes.
pub(crate) const PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";

const PROBES: [(&str, &str); 3] = [
    ("readinessProbe", "readyz"),
    ("livenessProbe", "livez"),
    ("startupProbe", "startupz"),
];
const HOOKS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];

/// Rewrites all probes of a pod to the agent's status port; returns the originals by path, as JSON.
pub(crate) fn rewrite(pod: &mut Value, status_port: u16) -> Option<String> {
    let mut probers = existing(pod);
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|c| c["name"] != "istio-proxy") {
            rewrite_container(container, status_port, &mut probers);
        }
    }
    (!probers.is_empty()).then(|| sorted_paths(probers))
}

/// The map as text: paths sorted, the entries as they were written.
fn sorted_paths(probers: Map<String, Value>) -> String {
    let sorted: std::collections::BTreeMap<String, Value> = probers.into_iter().collect();
    gotemplate::json_text(&Value::Object(sorted.into_iter().collect()))
}

/// What an earlier injection of the same pod recorded; maps of repeated injections are united.
fn existing(pod: &Value) -> Map<String, Value> {
    let lists = ["initContainers", "containers"]
        .iter()
        .filter_map(|list| pod["spec"][*list].as_array());
    let proxy = lists.flatten().find(|container| container["name"] == "istio-proxy");
    let variables = proxy.and_then(|proxy| proxy["env"].as_array());
    let probers = variables.and_then(|env| env.iter().find(|variable| variable["name"] == PROBERS));
    let text = probers.and_then(|variable| variable["value"].as_str());
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

fn rewrite_container(container: &mut Value, status_port: u16, probers: &mut Map<String, Value>) {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let ports = container["ports"].clone();
    for (field, path) in PROBES {
        let path = format!("/app-health/{name}/{path}");
        if let Some(probe) = container.get_mut(field).filter(|probe| probe.is_object()) {
            rewrite_one(probe, &path, status_port, &ports, true, probers);
        }
    }
    for (field, path) in HOOKS {
        let path = format!("/app-lifecycle/{name}/{path}");
        let hook = container
            .get_mut("lifecycle")
            .and_then(|lifecycle| lifecycle.get_mut(field));
        if let Some(hook) = hook.filter(|hook| hook.is_object()) {
            rewrite_one(hook, &path, status_port, &ports, false, probers);
        }
    }
}

fn rewrite_one(
    probe: &mut Value,
    path: &str,
    status_port: u16,
    ports: &Value,
    is_probe: bool,
    probers: &mut Map<String, Value>,
) {
    // Already pointed at the agent by an earlier injection.
    if probe["httpGet"]["path"] == path {
        return;
    }
    let Some(kind) = ["httpGet", "tcpSocket", "grpc"]
        .into_iter()
        .find(|kind| probe.get(*kind).is_some())
    else {
        return;
    };
    if kind == "grpc" && !is_probe {
        return;
    }
    let mut handler = probe[kind].clone();
    let resolved = match (kind, resolve(&handler["port"], ports)) {
        ("grpc", _) => true,
        (_, Some(port)) => {
            handler["port"] = port.into();
            true
        }
        // The probe still goes to the agent, which then answers with an error that names the port.
        (_, None) => false,
    };
    if resolved {
        let mut entry = Map::new();
        entry.insert(kind.to_owned(), handler);
        if let Some(timeout) = probe.get("timeoutSeconds") {
            entry.insert("timeoutSeconds".to_owned(), timeout.clone());
        }
        probers.insert(path.to_owned(), Value::Object(entry));
    }
    if let Value::Object(fields) = probe {
        let original = fields.shift_remove(kind).unwrap_or_default();
        let mut get = json!({ "path": path, "port": status_port });
        if kind == "httpGet"
            && let (Value::Object(get), Value::Object(original)) = (&mut get, original)
        {
            for (field, value) in original {
                // The agent passes headers on. The host would lead past it; the scheme is the agent's, plain HTTP.
                match field.as_str() {
                    "scheme" if value == "HTTPS" => {
                        get.insert(field, json!("HTTP"));
                    }
                    "scheme" | "httpHeaders" => {
                        get.insert(field, value);
                    }
                    _ => {}
                }
            }
        }
        fields.insert("httpGet".to_owned(), get);
    }
}

fn resolve(port: &Value, ports: &Value) -> Option<i64> {
    match port {
        Value::Number(number) => number.as_i64(),
        Value::String(name) => match name.parse() {
            Ok(number) => Some(number),
            Err(_) => ports.as_array()?.iter().find(|p| p["name"] == *port)?["containerPort"].as_i64(),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn probes_go_to_the_agent_and_their_originals_with_them() {
        let mut pod = json!({"spec": {"containers": [{
            "name": "app",
            "ports": [{"name": "http", "containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": "http", "path": "/ready", "scheme": "HTTPS",
                "httpHeaders": [{"name": "X", "value": "a&b"}]}, "timeoutSeconds": 2},
            "livenessProbe": {"exec": {"command": ["true"]}},
            "startupProbe": {"tcpSocket": {"port": 5}},
        }]}});
        let probers: Value = serde_json::from_str(&rewrite(&mut pod, 15020).unwrap()).unwrap();
        assert_eq!(
            probers,
            json!({
                "/app-health/app/readyz": {"httpGet": {"port": 80, "path": "/ready", "scheme": "HTTPS",
                    "httpHeaders": [{"name": "X", "value": "a&b"}]}, "timeoutSeconds": 2},
                "/app-health/app/startupz": {"tcpSocket": {"port": 5}},
            })
        );
        let container = &pod["spec"]["containers"][0];
        assert_eq!(
            container["readinessProbe"]["httpGet"],
            json!({"path": "/app-health/app/readyz", "port": 15020, "scheme": "HTTP",
                "httpHeaders": [{"name": "X", "value": "a&b"}]})
        );
        assert_eq!(container["livenessProbe"], json!({"exec": {"command": ["true"]}}));
        assert_eq!(
            container["startupProbe"],
            json!({"httpGet": {"path": "/app-health/app/startupz", "port": 15020}})
        );
    }

    #[test]
    fn a_second_pass_changes_nothing() {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "livenessProbe": {"tcpSocket": {"port": 1}}}]}});
        rewrite(&mut pod, 15020);
        let once = pod.clone();
        rewrite(&mut pod, 15020);
        assert_eq!(pod, once);
    }
}
