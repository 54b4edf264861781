//! `proxy-config endpoint`: from a configuration dump, or live with health as Envoy sees it.

use serde_json::Value;

use super::dump::{items, list, part, text};
use crate::failure::Failure;
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
    fn passes(&self, address: &Value, status: &str, cluster: &str) -> bool {
        let (host, port) = socket(address);
        self.address.as_ref().is_none_or(|wanted| host == *wanted)
            && self.port.is_none_or(|wanted| port == Some(u64::from(wanted)))
            && self.cluster.as_ref().is_none_or(|wanted| cluster == wanted)
            && self
                .status
                .as_ref()
                .is_none_or(|wanted| status.eq_ignore_ascii_case(wanted))
    }
}

fn socket(address: &Value) -> (String, Option<u64>) {
    let host = text(address, "/socket_address/address").to_owned();
    (
        host,
        address.pointer("/socket_address/port_value").and_then(Value::as_u64),
    )
}

fn shown(address: &Value) -> String {
    let pipe = text(address, "/pipe/path");
    let internal = text(address, "/envoy_internal_address/server_listener_name");
    match socket(address) {
        (host, Some(port)) => format!("{host}:{port}"),
        _ if !pipe.is_empty() => pipe.to_owned(),
        _ => format!(
            "envoy://{internal}/{}",
            text(address, "/envoy_internal_address/endpoint_id")
        ),
    }
}

/// ClusterLoadAssignments that have an endpoint that passes the filter.
pub fn select(dump: &Value, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let part = part(dump, "EndpointsConfigDump")?;
    let mut all = items(
        part,
        &[
            ("static_endpoint_configs", "/endpoint_config"),
            ("dynamic_endpoint_configs", "/endpoint_config"),
        ],
    );
    all.retain(|assignment| !rows(assignment, filter).is_empty());
    all.sort_by_key(|assignment| order(text(assignment, "/cluster_name")));
    Ok(all)
}

/// Clusters sort by host, then port; endpoints keep the order in which Envoy has them.
fn order(cluster: &str) -> (String, u32) {
    match cluster.splitn(4, '|').collect::<Vec<_>>().as_slice() {
        [_, port, _, host] => ((*host).to_owned(), port.parse().unwrap_or(0)),
        _ => (cluster.to_owned(), 0),
    }
}

fn rows(assignment: &Value, filter: &Filter) -> Vec<Vec<String>> {
    let cluster = text(assignment, "/cluster_name");
    let mut rows = Vec::new();
    for group in list(assignment, "/endpoints") {
        let locality: Vec<&str> = ["region", "zone", "sub_zone"]
            .map(|part| text(group, &format!("/locality/{part}")))
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        for endpoint in list(group, "/lb_endpoints") {
            let address = &endpoint["endpoint"]["address"];
            let status = match text(endpoint, "/health_status") {
                "" | "UNKNOWN" => "HEALTHY",
                status => status,
            };
            if filter.passes(address, status, cluster) {
                rows.push(row([&shown(address), status, &locality.join("/"), cluster]));
            }
        }
    }
    rows
}

/// Columns.
pub fn table(assignments: &[Value], filter: &Filter) -> (Vec<Vec<String>>, usize) {
    let header = std::iter::once(row(["NAME", "STATUS", "LOCALITY", "CLUSTER"]));
    (
        header
            .chain(assignments.iter().flat_map(|assignment| rows(assignment, filter)))
            .collect(),
        5,
    )
}

/// Hosts of Envoy's `/clusters` that pass the filter, each with its cluster.
pub fn select_live(live: &Value, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    for cluster in list(live, "/cluster_statuses") {
        for host in list(cluster, "/host_statuses") {
            let name = text(cluster, "/name");
            if filter.passes(&host["address"], health(host), name) {
                let mut host = host.clone();
                host["cluster"] = name.into();
                all.push(host);
            }
        }
    }
    all.sort_by_key(|host| (shown(&host["address"]), text(host, "/cluster").to_owned()));
    Ok(all)
}

fn health(host: &Value) -> &str {
    match text(host, "/health_status/eds_health_status") {
        "" => "UNKNOWN",
        status => status,
    }
}

/// Columns of live endpoints.
pub fn table_live(hosts: &[Value]) -> (Vec<Vec<String>>, usize) {
    let mut rows = vec![row(["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"])];
    for host in hosts {
        let failed = host.pointer("/health_status/failed_outlier_check") == Some(&Value::Bool(true));
        let outlier = if failed { "FAILED" } else { "OK" };
        rows.push(row([
            &shown(&host["address"]),
            health(host),
            outlier,
            text(host, "/cluster"),
        ]));
    }
    (rows, 5)
}
