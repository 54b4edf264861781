//! `proxy-config cluster`.

use serde_json::Value;

use super::dump::{items, origin, part, text};
use crate::failure::Failure;
use crate::table::row;

/// Which clusters.
#[derive(Debug, Default)]
pub struct Filter {
    pub fqdn: Option<String>,
    pub port: Option<u16>,
    pub subset: Option<String>,
    pub direction: Option<String>,
}

/// Directions that clusters have.
pub const DIRECTIONS: [&str; 3] = ["inbound", "inbound-vip", "outbound"];

/// The parts of `outbound|80|v1|reviews.default.svc.cluster.local`, or of the older form with dots.
struct Name<'a> {
    direction: &'a str,
    port: &'a str,
    subset: &'a str,
    host: &'a str,
}

fn name(cluster: &Value) -> Name<'_> {
    let full = text(cluster, "/name");
    match full.splitn(4, '|').collect::<Vec<_>>().as_slice() {
        [direction, port, subset, host] => Name {
            direction,
            port,
            subset,
            host,
        },
        _ => Name {
            direction: "-",
            port: "-",
            subset: "-",
            host: full,
        },
    }
}

/// Clusters that pass the filter, sorted.
pub fn select(dump: &Value, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let part = part(dump, "ClustersConfigDump")?;
    let mut clusters = items(
        part,
        &[("dynamic_active_clusters", "/cluster"), ("static_clusters", "/cluster")],
    );
    clusters.retain(|cluster| {
        let name = name(cluster);
        filter
            .fqdn
            .as_ref()
            .is_none_or(|fqdn| name.host.contains(fqdn.as_str()))
            && filter.port.is_none_or(|port| name.port == port.to_string())
            && filter
                .subset
                .as_ref()
                .is_none_or(|subset| name.subset.contains(subset.as_str()))
            && filter
                .direction
                .as_ref()
                .is_none_or(|direction| name.direction.eq_ignore_ascii_case(direction))
    });
    clusters.sort_by_key(|cluster| {
        let name = name(cluster);
        (
            name.host.to_owned(),
            name.subset.to_owned(),
            name.port.parse::<u32>().unwrap_or(0),
            name.direction.to_owned(),
        )
    });
    Ok(clusters)
}

/// Columns.
pub fn table(clusters: &[Value]) -> (Vec<Vec<String>>, usize) {
    let mut rows = vec![row([
        "SERVICE FQDN",
        "PORT",
        "SUBSET",
        "DIRECTION",
        "TYPE",
        "DESTINATION RULE",
    ])];
    for cluster in clusters {
        let name = name(cluster);
        let kind = match text(cluster, "/type") {
            "" => text(cluster, "/cluster_type/name"),
            kind => kind,
        };
        // Protobuf's JSON leaves out what is zero, and STATIC is.
        let kind = if kind.is_empty() { "STATIC" } else { kind };
        let rule = origin(cluster).unwrap_or_default();
        let subset = if name.subset.is_empty() { "-" } else { name.subset };
        rows.push(row([name.host, name.port, subset, name.direction, kind, &rule]));
    }
    (rows, 5)
}

/// Columns with the full name first, for `all`.
pub fn table_all(clusters: &[Value]) -> (Vec<Vec<String>>, usize) {
    let (mut rows, padding) = table(clusters);
    for (row, name) in rows
        .iter_mut()
        .zip(std::iter::once("NAME").chain(clusters.iter().map(|c| text(c, "/name"))))
    {
        // Where the name is not made of parts, it stands for itself under its kind.
        if row[0] == name {
            row[0].insert_str(0, "cluster/");
        }
        row.insert(0, name.to_owned());
    }
    (rows, padding)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn clusters_are_named_by_their_parts() {
        let dump = json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
            "static_clusters": [{"cluster": {"name": "agent", "type": "STATIC"}}],
            "dynamic_active_clusters": [{"cluster": {"name": "outbound|8000||httpbin.test-ns.svc.cluster.local", "type": "EDS",
                "metadata": {"filter_metadata": {"istio": {"config": "/apis/networking.istio.io/v1/namespaces/test-ns/destination-rule/httpbin"}}}}}]}]});
        let (rows, padding) = table(&select(&dump, &Filter::default()).unwrap());
        insta::assert_snapshot!(crate::table::columns(&rows, padding), @r"
        SERVICE FQDN                          PORT     SUBSET     DIRECTION     TYPE       DESTINATION RULE
        agent                                 -        -          -             STATIC     
        httpbin.test-ns.svc.cluster.local     8000     -          outbound      EDS        httpbin.test-ns
        ");
        assert!(select(&json!({}), &Filter::default()).is_err());
    }

    #[test]
    fn clusters_are_sorted_by_host_subset_and_port() {
        let names = [
            "outbound|9|v2|a",
            "outbound|80|v1|a",
            "outbound|80||b",
            "outbound|9|v1|a",
            "agent",
        ];
        let clusters: Vec<_> = names.iter().map(|name| json!({"cluster": {"name": name}})).collect();
        let dump =
            json!({"configs": [{"@type": "x/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": clusters}]});
        let of_subset = |subset: Option<&str>| -> Vec<String> {
            let filter = Filter {
                subset: subset.map(str::to_owned),
                ..Filter::default()
            };
            let clusters = select(&dump, &filter).unwrap();
            clusters
                .iter()
                .map(|cluster| text(cluster, "/name").to_owned())
                .collect()
        };
        assert_eq!(
            of_subset(None),
            [
                "outbound|9|v1|a",
                "outbound|80|v1|a",
                "outbound|9|v2|a",
                "agent",
                "outbound|80||b"
            ]
        );
        assert_eq!(of_subset(Some("2")), ["outbound|9|v2|a"]);
    }
}
