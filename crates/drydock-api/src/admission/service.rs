//! Where a service reference leads: the address of a ready endpoint.

use crate::objects::{Objects, text};
use serde_json::Value;

/// An address to dial for `port` of a Service.
///
/// # Errors
/// The text the real server puts after the URL.
pub fn resolve(objects: &dyn Objects, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String> {
    let service = objects
        .get("", "services", namespace, name)
        .ok_or_else(|| format!("service {name:?} not found"))?;
    if text(&service, &["spec", "type"]) == "ExternalName" {
        return Ok((text(&service, &["spec", "externalName"]).to_owned(), port));
    }
    let ports = service["spec"]["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let Some(service_port) = ports.iter().find(|p| p["port"].as_u64() == Some(u64::from(port))) else {
        return Err(format!("no service port {port} found for service {name:?}"));
    };
    let port_name = service_port["name"].as_str().unwrap_or_default();
    let nobody = || format!("no endpoints available for service {name:?}");
    let slices = objects.list("discovery.k8s.io", "endpointslices", namespace);
    let mine = slices
        .iter()
        .filter(|s| text(s, &["metadata", "labels", "kubernetes.io/service-name"]) == name);
    for slice in mine {
        let port = slice["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|p| p["name"].as_str().unwrap_or_default() == port_name);
        let Some(port) = port
            .and_then(|p| p["port"].as_u64())
            .and_then(|p| u16::try_from(p).ok())
        else {
            continue;
        };
        if let Some(address) = slice["endpoints"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(ready_address)
        {
            return Ok((address, port));
        }
    }
    Err(nobody())
}

fn ready_address(endpoint: &Value) -> Option<String> {
    let ready = endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
    let address = endpoint["addresses"].as_array()?.first()?.as_str()?;
    ready.then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::fixture::Fixed;
    use serde_json::json;

    #[test]
    fn a_service_leads_to_a_ready_endpoint() {
        let mut objects = Fixed::default();
        assert_eq!(
            resolve(&objects, "ns", "istiod", 443).unwrap_err(),
            r#"service "istiod" not found"#
        );
        objects.put(
            "",
            "services",
            json!({"metadata": {"namespace": "ns", "name": "istiod"},
            "spec": {"ports": [{"name": "https-webhook", "port": 443}]}}),
        );
        assert_eq!(
            resolve(&objects, "ns", "istiod", 443).unwrap_err(),
            r#"no endpoints available for service "istiod""#
        );
        objects.put("discovery.k8s.io", "endpointslices", json!({
            "metadata": {"namespace": "ns", "name": "istiod-x", "labels": {"kubernetes.io/service-name": "istiod"}},
            "ports": [{"name": "http", "port": 8080}, {"name": "https-webhook", "port": 15017}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.2"], "conditions": {"ready": true}}],
        }));
        assert_eq!(
            resolve(&objects, "ns", "istiod", 443).unwrap(),
            ("10.0.0.2".into(), 15017)
        );
    }
}
