//! `proxy-config route`.

use serde_json::Value;

use super::dump::{items, list, origin, part, text};
use crate::failure::Failure;
use crate::table::row;

/// Most domains shown in a cell.
const DOMAINS: usize = 2;
/// Cluster for what no service is known for; a route to it is no route of anybody's.
const PASSTHROUGH: &str = "PassthroughCluster";

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
            let (title, domains) = (text(host, "/name"), domains(host));
            let mut any = false;
            for route in list(host, "/routes") {
                any = true;
                if text(route, "/route/cluster") != PASSTHROUGH {
                    let source = origin(route).unwrap_or_default();
                    rows.push(row([name, title, &domains, &matches(route), &source]));
                }
            }
            if !any {
                rows.push(row([name, title, &domains, "/*", "404"]));
            }
        }
    }
    (rows, 5)
}

/// Columns: a line for each configuration, with how many hosts it has.
pub fn counts(routes: &[Value]) -> (Vec<Vec<String>>, usize) {
    let count = |routes: &Value| list(routes, "/virtual_hosts").count().to_string();
    let rows = routes.iter().map(|routes| row([text(routes, "/name"), &count(routes)]));
    (std::iter::once(row(["NAME", "VIRTUAL HOSTS"])).chain(rows).collect(), 5)
}

/// The first domains. Those with a port repeat those without, and longer names of a Service repeat its shorter ones.
fn domains(host: &Value) -> String {
    let all: Vec<&str> = list(host, "/domains").filter_map(Value::as_str).collect();
    if let [one] = all[..] {
        return one.to_owned();
    }
    let has_port = |domain: &&str| domain.contains(':') && !(domain.matches(':').count() > 2 && domain.ends_with(']'));
    let bare: Vec<&str> = all.into_iter().filter(|domain| !has_port(domain)).collect();
    let repeats = |domain: &str| {
        let shorter = [".svc.cluster.local", ".svc"].map(|suffix| domain.strip_suffix(suffix));
        shorter.into_iter().flatten().any(|short| bare.contains(&short))
    };
    let shown: Vec<&str> = bare.iter().copied().filter(|domain| !repeats(domain)).collect();
    if shown.len() > DOMAINS {
        let (first, more) = shown.split_at(DOMAINS);
        return format!("{} + {} more...", first.join(", "), more.len());
    }
    shown.join(", ")
}

/// What a route applies to.
pub fn matches(route: &Value) -> String {
    let rule = &route["match"];
    let mut parts = Vec::new();
    for (pointer, before, after) in [
        ("/prefix", "", "*"),
        ("/path_separated_prefix", "PathPrefix:", ""),
        ("/path", "", ""),
    ] {
        let path = text(rule, pointer);
        if !path.is_empty() {
            parts.push(format!("{before}{path}{after}"));
        }
    }
    let regex = text(rule, "/safe_regex/regex");
    if !regex.is_empty() {
        parts.push(format!("regex {regex}"));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn dump(configuration: Value) -> Value {
        json!({"configs": [{"@type": "x/envoy.admin.v3.RoutesConfigDump",
            "dynamic_route_configs": [{"route_config": configuration}]}]})
    }

    #[test]
    fn a_line_for_each_route() {
        let from = |path: &str| json!({"filter_metadata": {"istio": {"config": path}}});
        let service = "/apis/networking.istio.io/v1/namespaces/test-ns/virtual-service/httpbin";
        let routes = select(
            &dump(json!({"name": "8000", "virtual_hosts": [
                {"name": "httpbin.test-ns.svc.cluster.local:8000",
                 "domains": ["httpbin.test-ns.svc.cluster.local", "httpbin", "httpbin.test-ns.svc", "httpbin.test-ns", "10.96.0.7"],
                 "routes": [{"match": {"prefix": "/"}, "metadata": from(service)},
                            {"match": {"path": "/x"}, "direct_response": {"status": 503}, "metadata": from("/else/where")}]},
                {"name": "allow_any", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "PassthroughCluster"}}]},
                {"name": "blackhole", "domains": ["*"]}]})),
            None,
        )
        .unwrap();
        let shown = |(rows, padding): (Vec<Vec<String>>, usize)| crate::table::columns(&rows, padding);
        insta::assert_snapshot!(shown(table(&routes)), @r"
        NAME     VHOST NAME                                 DOMAINS                                  MATCH     VIRTUAL SERVICE
        8000     httpbin.test-ns.svc.cluster.local:8000     httpbin, httpbin.test-ns + 1 more...     /*        httpbin.test-ns
        8000     httpbin.test-ns.svc.cluster.local:8000     httpbin, httpbin.test-ns + 1 more...     /x        <unknown>
        8000     blackhole                                  *                                        /*        404
        ");
        insta::assert_snapshot!(shown(counts(&routes)), @r"
        NAME     VIRTUAL HOSTS
        8000     3
        ");
    }

    #[test]
    fn the_first_domains_are_shown_without_what_repeats_them() {
        let check = |given: &[&str], expected: &str| assert_eq!(domains(&json!({"domains": given})), expected);
        check(&[], "");
        check(&["web.example:8080"], "web.example:8080");
        check(&["web.example", "web.example:8080"], "web.example");
        check(&["web.example", "192.0.2.1", "192.0.2.1:80"], "web.example, 192.0.2.1");
        check(
            &["web.example", "[2001:db8::7]", "[2001:db8::7]:80"],
            "web.example, [2001:db8::7]",
        );
        check(&["a", "b", "c", "c:80"], "a, b + 1 more...");
        check(&["a.x.svc.cluster.local", "a.x.svc", "a.x"], "a.x");
    }
}
