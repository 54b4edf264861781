//! A container's environment: service variables, `envFrom`, `env`, and `$(VAR)`.

use super::fields::{self, Addresses};
use super::quantity::resource;
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where values come from that are not in the pod itself.
pub(crate) trait Sources {
    fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>>;
    fn secret(&self, name: &str) -> Option<Arc<Secret>>;
}

/// Names of the ConfigMaps and Secrets that a container's environment reads.
pub(crate) fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// The environment in the order it is defined; a later definition of a name replaces the earlier one.
///
/// # Errors
/// Naming the missing ConfigMap, Secret or key, in kubelet's words (the pod shows `CreateContainerConfigError`).
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    sources: &dyn Sources,
    services: &BTreeMap<String, String>,
    addresses: &Addresses,
    node: (i128, i128),
) -> Result<BTreeMap<String, String>> {
    let mut out = services.clone();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_map(&reference.name) {
                Some(map) => out.extend(
                    map.data
                        .iter()
                        .flatten()
                        .map(|(k, v)| (format!("{prefix}{k}"), v.clone())),
                ),
                None if reference.optional == Some(true) => {}
                None => return Err(Error::Pod(format!("configmap \"{}\" not found", reference.name))),
            }
        }
        if let Some(reference) = &from.secret_ref {
            match sources.secret(&reference.name) {
                Some(secret) => out.extend(
                    secret
                        .data
                        .iter()
                        .flatten()
                        .map(|(k, v)| (format!("{prefix}{k}"), String::from_utf8_lossy(&v.0).into_owned())),
                ),
                None if reference.optional == Some(true) => {}
                None => return Err(Error::Pod(format!("secret \"{}\" not found", reference.name))),
            }
        }
    }
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            None => Some(expand(var.value.as_deref().unwrap_or_default(), &out)),
            Some(source) => {
                if let Some(field) = &source.field_ref {
                    Some(fields::field(pod, &field.field_path, addresses).ok_or_else(|| {
                        Error::Pod(format!(
                            "field {} of the pod is not available to env {}",
                            field.field_path, var.name
                        ))
                    })?)
                } else if let Some(selector) = &source.resource_field_ref {
                    let of = selector
                        .container_name
                        .as_ref()
                        .and_then(|n| super::all_containers(pod).find(|c| &c.name == n))
                        .unwrap_or(container);
                    Some(resource(of, selector, node).ok_or_else(|| {
                        Error::Pod(format!(
                            "resource {} is not known (env {})",
                            selector.resource, var.name
                        ))
                    })?)
                } else if let Some(r) = &source.config_map_key_ref {
                    let map = sources.config_map(&r.name);
                    let value = map
                        .as_ref()
                        .and_then(|m| m.data.as_ref())
                        .and_then(|d| d.get(&r.key))
                        .cloned();
                    keyed(
                        "configmap",
                        "ConfigMap",
                        &r.name,
                        &r.key,
                        r.optional,
                        map.is_some(),
                        value,
                        pod,
                    )?
                } else if let Some(r) = &source.secret_key_ref {
                    let secret = sources.secret(&r.name);
                    let value = secret
                        .as_ref()
                        .and_then(|s| s.data.as_ref())
                        .and_then(|d| d.get(&r.key))
                        .map(|v| String::from_utf8_lossy(&v.0).into_owned());
                    keyed(
                        "secret",
                        "Secret",
                        &r.name,
                        &r.key,
                        r.optional,
                        secret.is_some(),
                        value,
                        pod,
                    )?
                } else {
                    None
                }
            }
        };
        if let Some(value) = value {
            out.insert(var.name.clone(), value);
        }
    }
    Ok(out)
}

#[allow(clippy::too_many_arguments)]
fn keyed(
    low: &str,
    kind: &str,
    name: &str,
    key: &str,
    optional: Option<bool>,
    there: bool,
    value: Option<String>,
    pod: &Pod,
) -> Result<Option<String>> {
    match value {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None if there => Err(Error::Pod(format!(
            "couldn't find key {key} in {kind} {}/{name}",
            super::key(pod).0
        ))),
        None => Err(Error::Pod(format!("{low} \"{name}\" not found"))),
    }
}

/// Replaces `$(NAME)` by its value; `$$` is a dollar, and what is not defined stays as it is.
pub(crate) fn expand(text: &str, vars: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|a| a.split_once(')')) {
            match vars.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[at..at + name.len() + 3]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out + rest
}

/// Variables that tell a container where services are: always the API server's, and with `enableServiceLinks` those of
/// the pod's namespace.
pub(crate) fn service_variables(namespace: &str, links: bool, services: &[Arc<Service>]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for service in services {
        let (Some(ns), Some(name), Some(spec)) = (&service.metadata.namespace, &service.metadata.name, &service.spec)
        else {
            continue;
        };
        let master = ns == "default" && name == "kubernetes";
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
            continue;
        };
        if !(master || links && ns == namespace) {
            continue;
        }
        let prefix = name.to_ascii_uppercase().replace('-', "_");
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{ip}:{}", protocol.to_ascii_lowercase(), port.port);
            let full = format!("{prefix}_PORT_{}_{protocol}", port.port);
            if i == 0 {
                out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_string());
                out.insert(format!("{prefix}_SERVICE_PORT"), port.port.to_string());
                out.insert(format!("{prefix}_PORT"), url.clone());
            }
            if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                out.insert(
                    format!("{prefix}_SERVICE_PORT_{}", name.to_ascii_uppercase().replace('-', "_")),
                    port.port.to_string(),
                );
            }
            out.insert(format!("{full}_PROTO"), protocol.to_ascii_lowercase());
            out.insert(format!("{full}_PORT"), port.port.to_string());
            out.insert(format!("{full}_ADDR"), ip.to_string());
            out.insert(full, url);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    struct Fixed;
    impl Sources for Fixed {
        fn config_map(&self, name: &str) -> Option<Arc<ConfigMap>> {
            (name == "cm").then(|| Arc::new(serde_json::from_value(json!({"data": {"K": "$(A)"}})).unwrap()))
        }
        fn secret(&self, name: &str) -> Option<Arc<Secret>> {
            (name == "s").then(|| Arc::new(serde_json::from_value(json!({"data": {"P": "cHc="}})).unwrap()))
        }
    }

    fn env(container: serde_json::Value) -> Result<BTreeMap<String, String>> {
        let container: Container = serde_json::from_value(container).unwrap();
        environment(
            &Pod::default(),
            &container,
            &Fixed,
            &BTreeMap::new(),
            &Addresses {
                pod: "10.0.0.2".into(),
                host: String::new(),
            },
            (2, 0),
        )
    }

    #[test]
    fn order_expansion_and_sources() {
        let out = env(json!({"name": "c", "envFrom": [{"prefix": "X_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(B)-$$(A)"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": true}}}]}))
        .unwrap();
        assert_eq!(
            serde_json::to_value(out).unwrap(),
            json!({"A": "1", "B": "1-$(B)-$(A)", "IP": "10.0.0.2", "P": "pw", "X_K": "$(A)"})
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |env_json, want: &str| {
            assert_eq!(
                env(json!({"name": "c", "env": [{"name": "A", "valueFrom": env_json}]}))
                    .unwrap_err()
                    .to_string(),
                want
            )
        };
        check(
            json!({"configMapKeyRef": {"name": "none", "key": "k"}}),
            "configmap \"none\" not found",
        );
        check(
            json!({"secretKeyRef": {"name": "s", "key": "k"}}),
            "couldn't find key k in Secret /s",
        );
    }

    #[test]
    fn services_as_docker_links() {
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}})).unwrap();
        let vars = service_variables("d", false, &[Arc::new(service)]);
        assert_eq!(
            (
                vars["KUBERNETES_SERVICE_HOST"].as_str(),
                vars["KUBERNETES_SERVICE_PORT_HTTPS"].as_str(),
                vars["KUBERNETES_PORT_443_TCP"].as_str()
            ),
            ("10.96.0.1", "443", "tcp://10.96.0.1:443")
        );
    }
}
