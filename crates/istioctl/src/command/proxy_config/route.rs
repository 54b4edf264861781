//! `proxy-config route`.

use serde_json::Value;

use super::dump::{items, list, origin, part, text};
use crate::failure::Failure;
use crate::table::row;

/// Most domains shown in a cell.
const DOMAINS: usize = 3;

/// Route configurations, of one name or all; those named by a port sort by it.
pub fn select(dump: &Value, name: Option<&str>) -> Result<Vec<Value>, Failure> {
    let part = part(dump, "RoutesConfigDump")?;
    let mut routes = items(
        part,
        &[
            ("dynamic_route_configs", "/route_config"),
            ("static_route_configs", "/route_config"),
        ],
    );
    routes.retain(|route| name.is_none_or(|name| text(route, "/name") == name));
    routes.sort_by_key(|route| text(route, "/name").parse::<u32>().unwrap_or(0));
    Ok(routes)
}

/// Columns: a line for each route.
pub fn table(routes: &[Value]) -> (Vec<Vec<String>>, usize) {
    let mut rows = vec![row(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"])];
    for configuration in routes {
        let name = text(configuration, "/name");
        for host in list(configuration, "/virtual_hosts") {
            let domains = domains(host);
            let mut any = false;
            for route in list(host, "/routes") {
                any = true;
                rows.push(row([
                    name,
                    text(host, "/name"),
                    &domains,
                    &matches(route),
                    &source(route),
                ]));
            }
            if !any {
                rows.push(row([name, text(host, "/name"), &domains, "/*", "404"]));
            }
        }
    }
    (rows, 5)
}

/// The shortest domains say the most; those with a port repeat them.
fn domains(host: &Value) -> String {
    let mut domains: Vec<&str> = list(host, "/domains")
        .filter_map(Value::as_str)
        .filter(|domain| !domain.contains(':'))
        .collect();
    if domains.is_empty() {
        domains = list(host, "/domains").filter_map(Value::as_str).collect();
    }
    if domains.len() > DOMAINS {
        return format!(
            "{} + {} more...",
            domains[..DOMAINS - 1].join(", "),
            domains.len() + 1 - DOMAINS
        );
    }
    domains.join(", ")
}

/// What a route applies to.
pub fn matches(route: &Value) -> String {
    let rule = &route["match"];
    let mut parts = Vec::new();
    for (pointer, suffix) in [("/prefix", "*"), ("/path", "")] {
        let path = text(rule, pointer);
        if !path.is_empty() {
            parts.push(format!("{path}{suffix}"));
        }
    }
    let prefix = text(rule, "/path_separated_prefix");
    if !prefix.is_empty() {
        parts.push(format!("PathPrefix:{prefix}"));
    }
    let regex = text(rule, "/safe_regex/regex");
    if !regex.is_empty() {
        parts.push(format!("regex {regex}"));
    }
    parts.join(" ")
}

/// The VirtualService a route was made from, or what it does if it forwards nothing.
fn source(route: &Value) -> String {
    if let Some((kind, name)) = origin(route) {
        return if kind == "virtual-service" || kind == "virtualservice" {
            name
        } else {
            format!("{name} ({kind})")
        };
    }
    if route.get("direct_response").is_some() {
        let status = route
            .pointer("/direct_response/status")
            .map(Value::to_string)
            .unwrap_or_default();
        return if text(route, "/name") == "block_all" {
            "404".to_owned()
        } else {
            status
        };
    }
    String::new()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_for_each_route() {
        let dump = json!({"configs": [{"@type": "x/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [{"route_config": {
            "name": "8000", "virtual_hosts": [{"name": "httpbin.test-ns.svc.cluster.local:8000",
                "domains": ["httpbin.test-ns.svc.cluster.local", "httpbin", "httpbin.test-ns.svc", "httpbin.test-ns", "10.96.0.7"],
                "routes": [{"match": {"prefix": "/"}, "metadata": {"filter_metadata": {"istio": {
                    "config": "/apis/networking.istio.io/v1/namespaces/test-ns/virtual-service/httpbin"}}}}]}]}}]}]});
        let (rows, padding) = table(&select(&dump, None).unwrap());
        insta::assert_snapshot!(crate::table::columns(&rows, padding), @r"
        NAME     VHOST NAME                                 DOMAINS                                                    MATCH     VIRTUAL SERVICE
        8000     httpbin.test-ns.svc.cluster.local:8000     httpbin.test-ns.svc.cluster.local, httpbin + 3 more...     /*        httpbin.test-ns
        ");
    }
}
