//! Where a request on a pod, service or node goes.

use crate::{
    admission::service,
    error::{ApiError, Subject},
    field::FieldError,
    objects::{Objects, text},
    request::{Options, RequestInfo},
};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A server to forward to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host to dial.
    pub host: String,
    /// Port to dial.
    pub port: u16,
    /// How to talk to it.
    pub scheme: Scheme,
    /// Path and query to ask for.
    pub path: String,
}

/// How to talk to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTPS without looking at the certificate, as proxied services get it.
    Https,
    /// HTTPS to a node: the cluster's authority and a client certificate.
    Node,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Forward it.
    To(Target),
    /// Answer 204: an unscheduled pod has no logs.
    Nothing,
}

/// Decides about a request; `query` is its raw query.
///
/// # Errors
/// As the real server: pod or container unknown, pod without node, node without address.
pub fn route(objects: &dyn Objects, info: &RequestInfo, query: &str) -> Result<Route, ApiError> {
    match (info.resource.as_str(), info.subresource.as_str()) {
        ("pods", "log") => logs(objects, info, query),
        ("pods", verb @ ("exec" | "attach")) => {
            let pod = pod(objects, info)?;
            let container = container(&pod, info, &option(query, "container")?)?;
            let node = node_of(objects, &pod)?.ok_or_else(|| unscheduled(&info.name))?;
            let path = format!("/{verb}/{}/{}/{container}?{query}", info.namespace, info.name);
            Ok(Route::To(Target { path, ..node }))
        }
        ("pods", "portforward") => {
            let pod = pod(objects, info)?;
            let node = node_of(objects, &pod)?.ok_or_else(|| unscheduled(&info.name))?;
            let query = if query.is_empty() {
                String::new()
            } else {
                format!("?{query}")
            };
            Ok(Route::To(Target {
                path: format!("/portForward/{}/{}{query}", info.namespace, info.name),
                ..node
            }))
        }
        ("pods", "proxy") => pod_proxy(objects, info, query),
        ("services", "proxy") => service_proxy(objects, info, query),
        ("nodes", "proxy") => {
            let subject = Subject {
                group: "",
                resource: "nodes",
                name: &info.name,
            };
            let node = objects
                .get("", "nodes", "", &info.name)
                .ok_or_else(|| ApiError::not_found(subject))?;
            Ok(Route::To(Target {
                path: rest(info, query),
                ..node_target(&node)?
            }))
        }
        _ => Err(ApiError::no_such_resource()),
    }
}

fn option(query: &str, key: &str) -> Result<String, ApiError> {
    Ok(Options::parse(Some(query))?.get(key).unwrap_or_default().to_owned())
}

fn pod(objects: &dyn Objects, info: &RequestInfo) -> Result<std::sync::Arc<Value>, ApiError> {
    let subject = Subject {
        group: "",
        resource: "pods",
        name: &info.name,
    };
    objects
        .get("", "pods", &info.namespace, &info.name)
        .ok_or_else(|| ApiError::not_found(subject))
}

fn unscheduled(name: &str) -> ApiError {
    ApiError::bad_request(format!("pod {name} does not have a host assigned"))
}

fn names(pod: &Value, key: &str) -> Vec<String> {
    pod["spec"][key]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["name"].as_str())
        .map(str::to_owned)
        .collect()
}

/// The container asked for, or the only one, or the one the pod's annotation names.
fn container(pod: &Value, info: &RequestInfo, asked: &str) -> Result<String, ApiError> {
    let (main, init, extra) = (
        names(pod, "containers"),
        names(pod, "initContainers"),
        names(pod, "ephemeralContainers"),
    );
    if asked.is_empty() {
        if let [only] = main.as_slice()
            && (info.subresource == "log" || init.is_empty() || !only.is_empty())
        {
            return Ok(only.clone());
        }
        let default = text(
            pod,
            &["metadata", "annotations", "kubectl.kubernetes.io/default-container"],
        );
        if main.iter().any(|n| n == default) && info.subresource != "log" {
            return Ok(default.to_owned());
        }
        let mut message = format!(
            "a container name must be specified for pod {}, choose one of: [{}]",
            info.name,
            main.join(" ")
        );
        if !init.is_empty() {
            message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
        }
        return Err(ApiError::bad_request(message));
    }
    if main.iter().chain(&init).chain(&extra).any(|n| n == asked) {
        return Ok(asked.to_owned());
    }
    Err(ApiError::bad_request(format!(
        "container {asked} is not valid for pod {}",
        info.name
    )))
}

fn logs(objects: &dyn Objects, info: &RequestInfo, query: &str) -> Result<Route, ApiError> {
    let options = Options::parse(Some(query))?;
    check_log_options(&options, &info.name)?;
    let pod = pod(objects, info)?;
    let container = container(&pod, info, options.get("container").unwrap_or_default())?;
    let Some(node) = node_of(objects, &pod)? else {
        return Ok(Route::Nothing);
    };
    let query = if query.is_empty() {
        String::new()
    } else {
        format!("?{query}")
    };
    let path = format!("/containerLogs/{}/{}/{container}{query}", info.namespace, info.name);
    Ok(Route::To(Target { path, ..node }))
}

fn check_log_options(options: &Options, name: &str) -> Result<(), ApiError> {
    let mut problems = Vec::new();
    for (key, least, words) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        if let Some(value) = options.get(key).and_then(|v| v.parse::<i64>().ok())
            && value < least
        {
            problems.push(FieldError::invalid(key, &json!(value), words));
        }
    }
    if options.get("sinceSeconds").is_some() && options.get("sinceTime").is_some() {
        problems.push(FieldError::forbidden(
            "",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(
        Subject {
            group: "",
            resource: "PodLogOptions",
            name,
        },
        &problems,
    ))
}

fn node_of(objects: &dyn Objects, pod: &Value) -> Result<Option<Target>, ApiError> {
    let name = text(pod, &["spec", "nodeName"]);
    if name.is_empty() {
        return Ok(None);
    }
    let subject = Subject {
        group: "",
        resource: "nodes",
        name,
    };
    let node = objects
        .get("", "nodes", "", name)
        .ok_or_else(|| ApiError::not_found(subject))?;
    node_target(&node).map(Some)
}

fn node_target(node: &Value) -> Result<Target, ApiError> {
    let addresses = node["status"]["addresses"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let address = ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"]
        .iter()
        // A host name helps only where it resolves; a local cluster's node is reached by address.
        .filter(|kind| !matches!(**kind, "Hostname" | "InternalDNS" | "ExternalDNS"))
        .find_map(|kind| addresses.iter().find(|a| a["type"] == *kind))
        .and_then(|a| a["address"].as_str());
    let Some(host) = address else {
        return Err(ApiError::internal(format!(
            "no preferred addresses found; known addresses: {addresses:?}"
        )));
    };
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        .as_u64()
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p > 0)
        .unwrap_or(10250);
    Ok(Target {
        host: host.into(),
        port,
        scheme: Scheme::Node,
        path: "/".into(),
    })
}

/// `[scheme:]name[:port]` of a proxy path.
fn split_name(name: &str) -> (Scheme, &str, &str) {
    match name.split(':').collect::<Vec<_>>().as_slice() {
        [scheme, name, port] => (
            if *scheme == "https" {
                Scheme::Https
            } else {
                Scheme::Http
            },
            name,
            port,
        ),
        [name, port] => (Scheme::Http, name, port),
        _ => (Scheme::Http, name, ""),
    }
}

fn rest(info: &RequestInfo, query: &str) -> String {
    let query = if query.is_empty() {
        String::new()
    } else {
        format!("?{query}")
    };
    let trailing = if info.path.ends_with('/') && !info.rest.is_empty() {
        "/"
    } else {
        ""
    };
    let path: Vec<String> = info.rest.iter().map(|p| encode(p)).collect();
    format!("/{}{trailing}{query}", path.join("/"))
}

/// Percent-encodes a path segment.
fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Whether the server dials an address for somebody else: none of its own, none of the link.
fn is_proxyable(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast())
        }
        Ok(IpAddr::V6(ip)) => {
            !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast())
                && ip.to_ipv4_mapped().is_none()
        }
        Err(_) => false,
    }
}

fn pod_proxy(objects: &dyn Objects, info: &RequestInfo, query: &str) -> Result<Route, ApiError> {
    let (scheme, name, port) = split_name(&info.name);
    let own = RequestInfo {
        name: name.to_owned(),
        ..info.clone()
    };
    let pod = pod(objects, &own)?;
    let host = text(&pod, &["status", "podIP"]);
    if !is_proxyable(host) {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let ports = || {
        pod["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|c| c["ports"].as_array().into_iter().flatten())
    };
    let port = if port.is_empty() {
        ports()
            .next()
            .and_then(|p| p["containerPort"].as_u64())
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(80)
    } else {
        let named = ports()
            .find(|p| p["name"] == port)
            .and_then(|p| p["containerPort"].as_u64());
        match named.and_then(|p| u16::try_from(p).ok()).or_else(|| port.parse().ok()) {
            Some(port) => port,
            None => return Err(ApiError::bad_request(format!("invalid pod request {:?}", info.name))),
        }
    };
    Ok(Route::To(Target {
        host: host.into(),
        port,
        scheme,
        path: rest(info, query),
    }))
}

fn service_proxy(objects: &dyn Objects, info: &RequestInfo, query: &str) -> Result<Route, ApiError> {
    let (scheme, name, port) = split_name(&info.name);
    let subject = Subject {
        group: "",
        resource: "services",
        name,
    };
    let service = objects
        .get("", "services", &info.namespace, name)
        .ok_or_else(|| ApiError::not_found(subject))?;
    let ports = service["spec"]["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let number = |p: &Value| p["port"].as_u64().and_then(|p| u16::try_from(p).ok());
    let wanted = match (port, ports) {
        ("", [only]) => number(only),
        ("", _) => None,
        (port, ports) => ports
            .iter()
            .find(|p| p["name"] == port)
            .and_then(number)
            .or_else(|| port.parse().ok()),
    };
    let unavailable = |text: String| ApiError::new(503, "ServiceUnavailable", text);
    let Some(wanted) = wanted else {
        return Err(unavailable(format!(
            "no endpoints available for service {:?}",
            info.name
        )));
    };
    let (host, port) = service::resolve(objects, &info.namespace, name, wanted).map_err(unavailable)?;
    if !is_proxyable(&host) {
        return Err(ApiError::bad_request("address not allowed"));
    }
    Ok(Route::To(Target {
        host,
        port,
        scheme,
        path: rest(info, query),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::fixture::Fixed;

    fn objects() -> Fixed {
        let mut objects = Fixed::default();
        let pod = |name: &str, node: &str, containers: Value| json!({"metadata": {"namespace": "ns", "name": name}, "spec": {"nodeName": node, "containers": containers}});
        objects.put("", "pods", pod("p", "n", json!([{"name": "c"}])));
        objects.put("", "pods", pod("two", "", json!([{"name": "a"}, {"name": "b"}])));
        objects.put(
            "",
            "nodes",
            json!({"metadata": {"name": "n"}, "status": {
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.9"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 12345}}}}),
        );
        objects
    }

    fn check(path: &str, query: &str, expected: Result<&str, &str>) {
        let info = RequestInfo::parse("GET", path, Some(query)).unwrap();
        let got = route(&objects(), &info, query).map(|r| match r {
            Route::To(t) => format!("{}:{}{}", t.host, t.port, t.path),
            Route::Nothing => "nothing".into(),
        });
        assert_eq!(
            got.as_ref().map(String::as_str).map_err(|e| e.message.as_str()),
            expected,
            "{path}"
        );
    }

    #[test]
    fn requests_go_to_the_pods_node() {
        let pods = "/api/v1/namespaces/ns/pods";
        check(
            &format!("{pods}/p/log"),
            "follow=true",
            Ok("10.0.0.9:12345/containerLogs/ns/p/c?follow=true"),
        );
        check(
            &format!("{pods}/p/exec"),
            "command=ls&stdout=true",
            Ok("10.0.0.9:12345/exec/ns/p/c?command=ls&stdout=true"),
        );
        check(
            &format!("{pods}/p/portforward"),
            "ports=80",
            Ok("10.0.0.9:12345/portForward/ns/p?ports=80"),
        );
        check(
            &format!("{pods}/two/log"),
            "",
            Err("a container name must be specified for pod two, choose one of: [a b]"),
        );
        check(
            &format!("{pods}/two/log"),
            "container=x",
            Err("container x is not valid for pod two"),
        );
        check(&format!("{pods}/two/log"), "container=a", Ok("nothing"));
        check(
            &format!("{pods}/two/exec"),
            "container=a",
            Err("pod two does not have a host assigned"),
        );
        check(&format!("{pods}/none/log"), "", Err("pods \"none\" not found"));
        check(
            &format!("{pods}/p/log"),
            "tailLines=-1",
            Err("PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"),
        );
    }

    #[test]
    fn own_addresses_are_not_dialled_for_others() {
        for refused in [
            "",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "::ffff:127.0.0.1",
            "localhost",
        ] {
            assert!(!is_proxyable(refused), "{refused}");
        }
        assert!(is_proxyable("10.244.0.7") && is_proxyable("fd00::7"));
    }
}
