//! `proxy-config listener`.

use serde_json::Value;

use super::dump::{items, list, part, text};
use crate::failure::Failure;

/// Which listeners.
#[derive(Debug, Default)]
pub struct Filter {
    pub address: Option<String>,
    pub port: Option<u16>,
}

const ADDRESS: &str = "/address/socket_address/address";
const PORT: &str = "/address/socket_address/port_value";

fn port(listener: &Value) -> u64 {
    listener.pointer(PORT).and_then(Value::as_u64).unwrap_or(0)
}

/// Listeners that pass the filter, sorted by port and address.
pub fn select(dump: &Value, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let part = part(dump, "ListenersConfigDump")?;
    let mut listeners = items(
        part,
        &[
            ("static_listeners", "/listener"),
            ("dynamic_listeners", "/active_state/listener"),
        ],
    );
    listeners.retain(|listener| {
        filter
            .address
            .as_ref()
            .is_none_or(|address| text(listener, ADDRESS) == address)
            && filter.port.is_none_or(|wanted| port(listener) == u64::from(wanted))
    });
    listeners.sort_by_key(|listener| {
        (
            text(listener, ADDRESS).to_owned(),
            port(listener),
            text(listener, "/name").to_owned(),
        )
    });
    Ok(listeners)
}

/// Columns: a line for each filter chain.
pub fn table(listeners: &[Value], verbose: bool) -> (Vec<Vec<String>>, usize) {
    let mut header: Vec<String> = ["ADDRESSES", "PORT", "MATCH", "DESTINATION"]
        .map(str::to_owned)
        .to_vec();
    if verbose {
        header.insert(0, "NAME".to_owned());
    }
    let mut rows = vec![header];
    for listener in listeners {
        let first = rows.len();
        let default = listener.get("default_filter_chain").into_iter();
        for chain in list(listener, "/filter_chains").chain(default) {
            let mut row = vec![
                text(listener, ADDRESS).to_owned(),
                port(listener).to_string(),
                matches(chain),
                destination(chain),
            ];
            if verbose {
                row.insert(0, text(listener, "/name").to_owned());
            }
            rows.push(row);
        }
        // As Istio lists them, so that both print the same lines: by destination, last first.
        rows[first..].sort_by(|left, right| right.last().cmp(&left.last()));
    }
    (rows, 1)
}

/// What a filter chain applies to.
fn matches(chain: &Value) -> String {
    let texts = |pointer: &str| {
        list(chain, pointer)
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(",")
    };
    let mut conditions = Vec::new();
    let names = texts("/filter_chain_match/server_names");
    if !names.is_empty() {
        conditions.push(format!("SNI: {names}"));
    }
    let transport = text(chain, "/filter_chain_match/transport_protocol");
    if !transport.is_empty() {
        conditions.push(format!("Trans: {transport}"));
    }
    let protocols = texts("/filter_chain_match/application_protocols");
    match protocols.as_str() {
        "" => {}
        "http/1.1,h2c" | "http/1.0,http/1.1,h2c" => conditions.push("App: http/1.1,h2c".to_owned()),
        "istio-http/1.0,istio-http/1.1,istio-h2" => conditions.push("App: Istio HTTP Plain".to_owned()),
        "istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2" => {
            conditions.push("App: TCP TLS".to_owned())
        }
        protocols => conditions.push(format!("App: {protocols}")),
    }
    let port = chain
        .pointer("/filter_chain_match/destination_port")
        .and_then(Value::as_u64);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let ranges: Vec<String> = list(chain, "/filter_chain_match/prefix_ranges")
        .map(|range| {
            format!(
                "{}/{}",
                text(range, "/address_prefix"),
                range.get("prefix_len").and_then(Value::as_u64).unwrap_or(0)
            )
        })
        .collect();
    if !ranges.is_empty() {
        conditions.push(format!("Addr: {}{port}", ranges.join(",")));
    } else if !port.is_empty() {
        conditions.push(format!("Addr: *{port}"));
    }
    if conditions.is_empty() {
        "ALL".to_owned()
    } else {
        conditions.join("; ")
    }
}

/// Where a filter chain leads.
fn destination(chain: &Value) -> String {
    for filter in list(chain, "/filters") {
        let config = &filter["typed_config"];
        let route = text(config, "/rds/route_config_name");
        if !route.is_empty() {
            return format!("Route: {route}");
        }
        if let Some(cluster) = only_cluster(config) {
            return format!("Cluster: {cluster}");
        }
        if config.get("route_config").is_some() {
            return format!("Inline Route: {}", inline_routes(config));
        }
        let cluster = text(config, "/cluster");
        if !cluster.is_empty() {
            return match cluster {
                "PassthroughCluster" | "InboundPassthroughCluster" | "BlackHoleCluster" => cluster.to_owned(),
                cluster => format!("Cluster: {cluster}"),
            };
        }
        let weighted: Vec<&str> = list(config, "/weighted_clusters/clusters")
            .map(|c| text(c, "/name"))
            .collect();
        if !weighted.is_empty() {
            return format!("Cluster: {}", weighted.join(", "));
        }
    }
    "Non-HTTP/Non-TCP".to_owned()
}

/// The cluster of an inline configuration that sends everything to one.
fn only_cluster(config: &Value) -> Option<&str> {
    let mut routes = list(config, "/route_config/virtual_hosts").flat_map(|host| list(host, "/routes"));
    let route = routes.next()?;
    let everything = route["match"].as_object()?.len() == 1 && text(route, "/match/prefix") == "/";
    let cluster = route.pointer("/route/cluster")?.as_str()?;
    (everything && routes.next().is_none()).then_some(cluster)
}

fn inline_routes(config: &Value) -> String {
    let mut paths: Vec<String> = list(config, "/route_config/virtual_hosts")
        .flat_map(|host| list(host, "/routes"))
        .map(super::route::matches)
        .collect();
    paths.sort();
    paths.dedup();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_for_each_filter_chain() {
        let listener = json!({"name": "virtualInbound", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15006}},
            "filter_chains": [
                {"filter_chain_match": {"destination_port": 80, "transport_protocol": "tls"},
                 "filters": [{"typed_config": {"rds": {"route_config_name": "inbound|80||"}}}]},
                {"filters": [{"typed_config": {"cluster": "InboundPassthroughCluster"}}]}]});
        let dump = json!({"configs": [{"@type": "x/envoy.admin.v3.ListenersConfigDump",
            "dynamic_listeners": [{"active_state": {"listener": listener}}]}]});
        let (rows, padding) = table(&select(&dump, &Filter::default()).unwrap(), false);
        insta::assert_snapshot!(crate::table::columns(&rows, padding), @r"
        ADDRESSES PORT  MATCH                  DESTINATION
        0.0.0.0   15006 Trans: tls; Addr: *:80 Route: inbound|80||
        0.0.0.0   15006 ALL                    InboundPassthroughCluster
        ");
    }
}
