//! `proxy-config listener`.

use serde_json::Value;

use super::dump::{items, list, part, text};
use crate::failure::Failure;

/// Which listeners.
#[derive(Debug, Default)]
pub struct Filter {
    pub address: Option<String>,
    pub port: Option<u16>,
    pub kind: Option<String>,
}

/// Which columns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns {
    /// The listener's name first.
    pub name: bool,
    /// The listener's type, in one line, instead of a line for each filter chain.
    pub kind: bool,
}

fn port(listener: &Value) -> u64 {
    let port = listener.pointer("/address/socket_address/port_value");
    port.and_then(Value::as_u64).unwrap_or(0)
}

/// The address, empty if the listener is internal to Envoy.
fn address(listener: &Value) -> &str {
    match text(listener, "/address/socket_address/address") {
        "" => text(listener, "/address/pipe/path"),
        address => address,
    }
}

/// The address, and those that it listens on beside it.
fn addresses(listener: &Value) -> Vec<&str> {
    let more = list(listener, "/additional_addresses").map(|more| text(more, "/address/socket_address/address"));
    std::iter::once(address(listener)).chain(more).collect()
}

fn chains(listener: &Value) -> impl Iterator<Item = &Value> {
    list(listener, "/filter_chains").chain(listener.get("default_filter_chain"))
}

fn is_http(filter: &Value) -> bool {
    text(filter, "/name") == "envoy.filters.network.http_connection_manager"
}

/// Whether it forwards connections; a chain that drops them is none.
fn is_tcp(filter: &Value) -> bool {
    text(filter, "/name") == "envoy.filters.network.tcp_proxy" && text(filter, "/typed_config/cluster") != BLACK_HOLE
}

const BLACK_HOLE: &str = "BlackHoleCluster";

/// What a listener understands.
fn kind(listener: &Value) -> &'static str {
    let any = |is: fn(&Value) -> bool| chains(listener).any(|chain| list(chain, "/filters").any(is));
    match (any(is_http), any(is_tcp)) {
        (true, true) => "HTTP+TCP",
        (true, false) => "HTTP",
        (false, true) => "TCP",
        (false, false) => "UNKNOWN",
    }
}

/// Listeners that pass the filter, as Envoy has them.
pub fn select(dump: &Value, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let part = part(dump, "ListenersConfigDump")?;
    let mut listeners = items(
        part,
        &[
            ("dynamic_listeners", "/active_state/listener"),
            ("static_listeners", "/listener"),
        ],
    );
    listeners.retain(|listener| {
        let is_at = |wanted: &String| {
            let own = addresses(listener);
            own.iter().any(|address| address.eq_ignore_ascii_case(wanted))
        };
        filter.address.as_ref().is_none_or(is_at)
            && filter.port.is_none_or(|wanted| port(listener) == u64::from(wanted))
            && filter
                .kind
                .as_ref()
                .is_none_or(|wanted| kind(listener).eq_ignore_ascii_case(wanted))
    });
    Ok(listeners)
}

/// Columns, sorted by port, address and type: a line for each filter chain.
pub fn table(listeners: &[Value], show: Columns) -> (Vec<Vec<String>>, usize) {
    let header: &[&str] = if show.kind {
        &["ADDRESSES", "PORT", "TYPE"]
    } else {
        &["ADDRESSES", "PORT", "MATCH", "DESTINATION"]
    };
    let named = |name: &str, cells: &[&str]| -> Vec<String> {
        let name = show.name.then_some(name).into_iter();
        name.chain(cells.iter().copied()).map(str::to_owned).collect()
    };
    let mut rows = vec![named("NAME", header)];
    let mut listeners: Vec<&Value> = listeners.iter().collect();
    listeners.sort_by_key(|listener| (port(listener), address(listener), kind(listener)));
    for listener in listeners {
        let name = text(listener, "/name");
        let (addresses, port) = (addresses(listener).join(","), port(listener).to_string());
        if show.kind {
            rows.push(named(name, &[&addresses, &port, kind(listener)]));
            continue;
        }
        // As Istio lists them, so that both print the same lines: by destination, last first.
        let mut own: Vec<_> = chains(listener)
            .map(|chain| (destination(chain), matches(chain)))
            .collect();
        own.sort_by(|left, right| right.0.cmp(&left.0));
        for (destination, matches) in &own {
            rows.push(named(name, &[&addresses, &port, matches, destination]));
        }
    }
    (rows, 1)
}

/// Lists of protocols that have a name of their own.
const PROTOCOLS: [(&str, &[&str]); 4] = [
    ("HTTP", &["http/1.0", "http/1.1", "h2c"]),
    (
        "HTTP TLS",
        &[
            "http/1.0",
            "http/1.1",
            "h2c",
            "istio-http/1.0",
            "istio-http/1.1",
            "istio-h2",
        ],
    ),
    (
        "Istio HTTP Plain",
        &["istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"],
    ),
    ("TCP TLS", &["istio-peer-exchange", "istio"]),
];

/// What a filter chain applies to.
fn matches(chain: &Value) -> String {
    let texts = |pointer: &str| -> Vec<&str> { list(chain, pointer).filter_map(Value::as_str).collect() };
    let mut conditions = Vec::new();
    let names = texts("/filter_chain_match/server_names");
    if !names.is_empty() {
        conditions.push(format!("SNI: {}", names.join(",")));
    }
    let transport = text(chain, "/filter_chain_match/transport_protocol");
    if !transport.is_empty() {
        conditions.push(format!("Trans: {transport}"));
    }
    let protocols = texts("/filter_chain_match/application_protocols");
    if !protocols.is_empty() {
        let known = PROTOCOLS.iter().find(|(_, list)| *list == protocols);
        conditions.push(match known {
            Some((name, _)) => format!("App: {name}"),
            None => format!("App: {}", protocols.join(",")),
        });
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
        if is_http(filter) {
            if let Some(routes) = config.get("route_config") {
                return inline(routes);
            }
            return match text(config, "/rds/route_config_name") {
                "" => "HTTP".to_owned(),
                name => format!("Route: {name}"),
            };
        }
        if is_tcp(filter) {
            let weighted: Vec<&str> = list(config, "/weighted_clusters/clusters")
                .map(|cluster| text(cluster, "/name"))
                .collect();
            return match text(config, "/cluster") {
                "" => format!("Cluster: {}", weighted.join(", ")),
                name => to_cluster(name),
            };
        }
    }
    "Non-HTTP/Non-TCP".to_owned()
}

/// Istio's own clusters say by their names what they are.
fn to_cluster(name: &str) -> String {
    if name.contains("Cluster") {
        name.to_owned()
    } else {
        format!("Cluster: {name}")
    }
}

/// An inline configuration: the cluster that it sends everything to, or what it has for which host.
fn inline(routes: &Value) -> String {
    if let Some(cluster) = only_cluster(routes) {
        return to_cluster(cluster);
    }
    let hosts: Vec<String> = list(routes, "/virtual_hosts")
        .map(|host| {
            let paths: Vec<String> = list(host, "/routes").map(super::route::matches).collect();
            match domains(host).as_slice() {
                ["*"] | [] => paths.join(", "),
                domains => format!("{} {}", domains.join("/"), paths.join(", ")),
            }
        })
        .collect();
    format!("Inline Route: {}", hosts.join("; "))
}

fn domains(host: &Value) -> Vec<&str> {
    list(host, "/domains").filter_map(Value::as_str).collect()
}

fn only_cluster(routes: &Value) -> Option<&str> {
    let mut hosts = list(routes, "/virtual_hosts");
    let (host, None) = (hosts.next()?, hosts.next()) else {
        return None;
    };
    let mut rules = list(host, "/routes");
    let (rule, None) = (rules.next()?, rules.next()) else {
        return None;
    };
    let everything = domains(host) == ["*"] && text(rule, "/match/prefix") == "/";
    everything.then(|| rule.pointer("/route/cluster")?.as_str()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const HTTP: &str = "envoy.filters.network.http_connection_manager";
    const TCP: &str = "envoy.filters.network.tcp_proxy";

    fn listener(address: &str, port: u16, filters: Value) -> Value {
        json!({"name": format!("{address}_{port}"), "address": {"socket_address": {"address": address, "port_value": port}},
            "filter_chains": [{"filters": filters}]})
    }

    fn dump(listeners: &[Value]) -> Value {
        let dynamic: Vec<Value> = listeners
            .iter()
            .map(|listener| json!({"active_state": {"listener": listener}}))
            .collect();
        json!({"configs": [{"@type": "x/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": dynamic}]})
    }

    fn shown(listeners: &[Value], show: Columns) -> String {
        let (rows, padding) = table(listeners, show);
        crate::table::columns(&rows, padding)
    }

    #[test]
    fn a_line_for_each_filter_chain() {
        let listener = json!({"name": "virtualInbound", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15006}},
            "additional_addresses": [{"address": {"socket_address": {"address": "::", "port_value": 15006}}}],
            "filter_chains": [
                {"filter_chain_match": {"destination_port": 80, "transport_protocol": "tls",
                    "application_protocols": ["istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"]},
                 "filters": [{"name": HTTP, "typed_config": {"rds": {"route_config_name": "inbound|80||"}}}]},
                {"filter_chain_match": {"application_protocols": ["istio-peer-exchange", "istio"]},
                 "filters": [{"name": TCP, "typed_config": {"cluster": "inbound|9000||"}}]},
                {"filter_chain_match": {"application_protocols": ["http/1.1"]}, "filters": [{"name": HTTP, "typed_config": {}}]},
                {"filter_chain_match": {"destination_port": 15006}, "filters": [{"name": TCP, "typed_config": {"cluster": "BlackHoleCluster"}}]},
                {"filters": [{"name": TCP, "typed_config": {"cluster": "InboundPassthroughCluster"}}]}]});
        let listeners = select(&dump(&[listener]), &Filter::default()).unwrap();
        insta::assert_snapshot!(shown(&listeners, Columns::default()), @r"
        ADDRESSES  PORT  MATCH                                         DESTINATION
        0.0.0.0,:: 15006 Trans: tls; App: Istio HTTP Plain; Addr: *:80 Route: inbound|80||
        0.0.0.0,:: 15006 Addr: *:15006                                 Non-HTTP/Non-TCP
        0.0.0.0,:: 15006 ALL                                           InboundPassthroughCluster
        0.0.0.0,:: 15006 App: http/1.1                                 HTTP
        0.0.0.0,:: 15006 App: TCP TLS                                  Cluster: inbound|9000||
        ");
    }

    #[test]
    fn an_inline_configuration_says_what_it_has_for_which_host() {
        let inline = |hosts: Value| json!([{"name": HTTP, "typed_config": {"route_config": {"virtual_hosts": hosts}}}]);
        let route = |path: &str, cluster: &str| json!({"match": {"prefix": path}, "route": {"cluster": cluster}});
        let to = |hosts: Value| destination(&json!({"filters": inline(hosts)}));
        assert_eq!(
            to(json!([{"domains": ["*"], "routes": [route("/", "agent")]}])),
            "Cluster: agent"
        );
        assert_eq!(
            to(json!([{"domains": ["*"], "routes": [route("/", "PassthroughCluster")]}])),
            "PassthroughCluster"
        );
        assert_eq!(
            to(json!([
                {"domains": ["a.example", "b.example"], "routes": [route("/", "a"), route("/b", "b")]},
                {"domains": ["*"], "routes": [route("/ready", "agent")]}])),
            "Inline Route: a.example/b.example /*, /b*; /ready*"
        );
    }

    #[test]
    fn a_listener_is_sorted_and_filtered_by_what_it_understands() {
        let http = json!([{"name": HTTP, "typed_config": {}}]);
        let tcp = json!([{"name": TCP, "typed_config": {"cluster": "a"}}]);
        let all = dump(&[
            listener("10.0.0.2", 80, http),
            listener("10.0.0.1", 80, tcp),
            listener("0.0.0.0", 9, json!([])),
        ]);
        let listeners = select(&all, &Filter::default()).unwrap();
        let show = Columns { name: true, kind: true };
        insta::assert_snapshot!(shown(&listeners, show), @r"
        NAME        ADDRESSES PORT TYPE
        0.0.0.0_9   0.0.0.0   9    UNKNOWN
        10.0.0.1_80 10.0.0.1  80   TCP
        10.0.0.2_80 10.0.0.2  80   HTTP
        ");
        let filter = Filter {
            kind: Some("http".to_owned()),
            ..Filter::default()
        };
        let names = |filter: &Filter| -> Vec<String> {
            let listeners = select(&all, filter).unwrap();
            listeners
                .iter()
                .map(|listener| text(listener, "/name").to_owned())
                .collect()
        };
        assert_eq!(names(&filter), ["10.0.0.2_80"]);
        assert_eq!(names(&Filter::default()), ["10.0.0.2_80", "10.0.0.1_80", "0.0.0.0_9"]);
    }
}
