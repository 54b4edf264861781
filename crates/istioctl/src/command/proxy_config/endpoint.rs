//! `proxy-config endpoint`: from a configuration dump, or from Envoy's `/clusters`, with health as Envoy sees it.

use serde_json::Value;

use super::dump::{items, list, part, text};
use crate::table::row;

/// States that endpoints have, as Envoy names them.
pub const STATES: [&str; 6] = ["healthy", "unhealthy", "draining", "timeout", "degraded", "unknown"];

/// Which endpoints.
#[derive(Debug, Default)]
pub struct Filter {
    pub address: Option<String>,
    pub port: Option<u16>,
    pub cluster: Option<String>,
    pub status: Option<String>,
}

impl Filter {
    fn passes(&self, addresses: &[String], port: Option<u64>, status: &str, cluster: &str) -> bool {
        let is_at = |wanted: &String| {
            addresses.iter().any(|address| {
                let host = address.rsplit_once(':').map_or("", |(host, _)| host);
                address.eq_ignore_ascii_case(wanted) || host.eq_ignore_ascii_case(wanted)
            })
        };
        self.address.as_ref().is_none_or(is_at)
            && self.port.is_none_or(|wanted| port == Some(u64::from(wanted)))
            && self
                .cluster
                .as_ref()
                .is_none_or(|wanted| cluster.eq_ignore_ascii_case(wanted))
            && self
                .status
                .as_ref()
                .is_none_or(|wanted| status.eq_ignore_ascii_case(wanted))
    }
}

fn port(address: &Value) -> Option<u64> {
    address.pointer("/socket_address/port_value").and_then(Value::as_u64)
}

fn shown(address: &Value) -> String {
    let host = text(address, "/socket_address/address");
    let pipe = text(address, "/pipe/path");
    let listener = text(address, "/envoy_internal_address/server_listener_name");
    match port(address) {
        Some(port) => format!("{host}:{port}"),
        _ if !host.is_empty() => host.to_owned(),
        _ if !pipe.is_empty() => pipe.to_owned(),
        _ if !listener.is_empty() => {
            let id = text(address, "/envoy_internal_address/endpoint_id");
            format!("envoy://{listener}/{id}")
        }
        _ => "unknown".to_owned(),
    }
}

/// ClusterLoadAssignments that have an endpoint that passes the filter, with those endpoints only. A dump that was taken
/// without endpoints has none.
pub fn select(dump: &Value, filter: &Filter) -> Vec<Value> {
    let Ok(part) = part(dump, "EndpointsConfigDump") else {
        return Vec::new();
    };
    let mut all = items(
        part,
        &[
            ("dynamic_endpoint_configs", "/endpoint_config"),
            ("static_endpoint_configs", "/endpoint_config"),
        ],
    );
    all.retain_mut(|assignment| {
        let cluster = text(assignment, "/cluster_name").to_owned();
        let groups = assignment.get_mut("endpoints").and_then(Value::as_array_mut);
        let endpoints = groups
            .into_iter()
            .flatten()
            .filter_map(|group| group.get_mut("lb_endpoints")?.as_array_mut());
        let mut left = 0;
        for endpoints in endpoints {
            endpoints.retain(|endpoint| {
                let first = port(&endpoint["endpoint"]["address"]);
                filter.passes(&addresses(endpoint), first, status(endpoint), &cluster)
            });
            left += endpoints.len();
        }
        left > 0
    });
    all.sort_by_cached_key(|assignment| order(text(assignment, "/cluster_name")));
    all
}

/// The address, and those that the endpoint has beside it.
fn addresses(endpoint: &Value) -> Vec<String> {
    let more = list(endpoint, "/endpoint/additional_addresses").map(|more| shown(&more["address"]));
    std::iter::once(shown(&endpoint["endpoint"]["address"]))
        .chain(more)
        .collect()
}

fn status(endpoint: &Value) -> &str {
    match text(endpoint, "/health_status") {
        "" => "UNKNOWN",
        status => status,
    }
}

/// Clusters sort by host, subset, port and direction; endpoints keep the order in which Envoy has them.
fn order(cluster: &str) -> (String, String, u32, String) {
    match cluster.splitn(4, '|').collect::<Vec<_>>()[..] {
        [direction, port, subset, host] => (
            host.to_owned(),
            subset.to_owned(),
            port.parse().unwrap_or(0),
            direction.to_owned(),
        ),
        _ => (cluster.to_owned(), String::new(), 0, String::new()),
    }
}

fn rows(assignment: &Value) -> Vec<Vec<String>> {
    let cluster = text(assignment, "/cluster_name");
    let mut rows = Vec::new();
    for group in list(assignment, "/endpoints") {
        let locality: Vec<&str> = ["region", "zone", "sub_zone"]
            .map(|part| text(group, &format!("/locality/{part}")))
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        for endpoint in list(group, "/lb_endpoints") {
            rows.push(row([
                &addresses(endpoint).join(","),
                status(endpoint),
                &locality.join("/"),
                cluster,
            ]));
        }
    }
    rows
}

/// Columns.
pub fn table(assignments: &[Value]) -> (Vec<Vec<String>>, usize) {
    let header = std::iter::once(row(["NAME", "STATUS", "LOCALITY", "CLUSTER"]));
    (header.chain(assignments.iter().flat_map(rows)).collect(), 5)
}

/// Whether it is an answer of Envoy's `/clusters`.
pub fn is_live(dump: &Value) -> bool {
    dump.get("cluster_statuses").is_some()
}

/// Clusters that have a host that passes the filter, each as Envoy shows it.
pub fn select_live(live: &Value, filter: &Filter) -> Vec<Value> {
    let clusters = list(live, "/cluster_statuses");
    let any = |cluster: &&Value| list(cluster, "/host_statuses").any(|host| passes_live(host, cluster, filter));
    clusters.filter(any).cloned().collect()
}

fn passes_live(host: &Value, cluster: &Value, filter: &Filter) -> bool {
    let address = &host["address"];
    filter.passes(
        &[shown_live(address)],
        port(address),
        health(host),
        text(cluster, "/name"),
    )
}

/// A path says that it is one: what is listed has no other sign of it.
fn shown_live(address: &Value) -> String {
    match text(address, "/pipe/path") {
        "" => shown(address),
        path => format!("unix://{path}"),
    }
}

fn health(host: &Value) -> &str {
    match text(host, "/health_status/eds_health_status") {
        "" => "UNKNOWN",
        status => status,
    }
}

/// Columns of live endpoints, sorted by address, port and cluster.
pub fn table_live(clusters: &[Value], filter: &Filter) -> (Vec<Vec<String>>, usize) {
    let mut hosts: Vec<(&Value, &Value)> = clusters
        .iter()
        .flat_map(|cluster| list(cluster, "/host_statuses").map(move |host| (host, cluster)))
        .filter(|(host, cluster)| passes_live(host, cluster, filter))
        .collect();
    hosts.sort_by_cached_key(|(host, cluster)| {
        let address = &host["address"];
        let name = match text(address, "/socket_address/address") {
            "" => shown_live(address),
            name => name.to_owned(),
        };
        (name, port(address), text(cluster, "/name").to_owned())
    });
    let mut rows = vec![row(["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"])];
    for (host, cluster) in hosts {
        let failed = host.pointer("/health_status/failed_outlier_check") == Some(&Value::Bool(true));
        let outlier = if failed { "FAILED" } else { "OK" };
        rows.push(row([
            &shown_live(&host["address"]),
            health(host),
            outlier,
            text(cluster, "/name"),
        ]));
    }
    (rows, 5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(host: &str, port: u16) -> Value {
        json!({"socket_address": {"address": host, "port_value": port}})
    }

    fn shown((rows, padding): (Vec<Vec<String>>, usize)) -> String {
        crate::table::columns(&rows, padding)
    }

    #[test]
    fn a_filter_leaves_out_endpoints_not_only_clusters() {
        let endpoint = |host: &str, port: u16, status: &str| json!({"endpoint": {"address": at(host, port)}, "health_status": status});
        let mut dual = endpoint("10.0.0.2", 80, "DRAINING");
        dual["endpoint"]["additional_addresses"] = json!([{"address": at("2001:db8::2", 80)}]);
        let assignment = |cluster: &str, endpoints: Value| {
            json!({"endpoint_config": {"cluster_name": cluster, "endpoints": [
            {"locality": {"region": "r", "zone": "z"}, "lb_endpoints": endpoints}]}})
        };
        let unknown = json!({"endpoint": {"address": {"pipe": {"path": "/var/run/x"}}}});
        let dump = json!({"configs": [{"@type": "x/envoy.admin.v3.EndpointsConfigDump", "dynamic_endpoint_configs": [
            assignment("outbound|80|v1|web", json!([endpoint("10.0.0.1", 8080, "HEALTHY"), dual])),
            assignment("outbound|90||web", json!([unknown]))]}]});
        let find = |filter: Filter| shown(table(&select(&dump, &filter)));
        insta::assert_snapshot!(find(Filter::default()), @r"
        NAME                           STATUS       LOCALITY     CLUSTER
        /var/run/x                     UNKNOWN      r/z          outbound|90||web
        10.0.0.1:8080                  HEALTHY      r/z          outbound|80|v1|web
        10.0.0.2:80,2001:db8::2:80     DRAINING     r/z          outbound|80|v1|web
        ");
        let by_port = Filter {
            port: Some(8080),
            ..Filter::default()
        };
        let left = select(&dump, &by_port);
        assert_eq!(left.len(), 1);
        assert_eq!(list(&left[0], "/endpoints/0/lb_endpoints").count(), 1);
        for wanted in ["2001:db8::2", "10.0.0.2:80"] {
            let filter = Filter {
                address: Some(wanted.to_owned()),
                ..Filter::default()
            };
            assert!(find(filter).ends_with("outbound|80|v1|web\n"), "{wanted}");
        }
        assert_eq!(
            find(Filter {
                status: Some("nope".to_owned()),
                ..Filter::default()
            })
            .lines()
            .count(),
            1
        );
        assert!(select(&json!({}), &Filter::default()).is_empty());
    }

    #[test]
    fn live_endpoints_are_sorted_by_address_and_port() {
        let host = |address: Value| json!({"address": address, "health_status": {"eds_health_status": "HEALTHY"}});
        let live = json!({"cluster_statuses": [
            {"name": "b", "host_statuses": [host(at("10.0.0.1", 8080)), host(at("10.0.0.1", 90))]},
            {"name": "a", "host_statuses": [host(json!({"pipe": {"path": "./socket"}}))]},
            {"name": "none"}]});
        let filter = Filter::default();
        insta::assert_snapshot!(shown(table_live(&select_live(&live, &filter), &filter)), @r"
        ENDPOINT            STATUS      OUTLIER CHECK     CLUSTER
        10.0.0.1:90         HEALTHY     OK                b
        10.0.0.1:8080       HEALTHY     OK                b
        unix://./socket     HEALTHY     OK                a
        ");
        assert_eq!(select_live(&live, &filter).len(), 2);
        let by_port = Filter {
            port: Some(90),
            ..Filter::default()
        };
        assert_eq!(
            shown(table_live(&select_live(&live, &by_port), &by_port))
                .lines()
                .count(),
            2
        );
    }
}
