//! What a node asks the API server before it joins: which addresses services have, and which its pods may take.

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

/// Where the range for pods is taken from when nobody says otherwise: 10.244.N.0/24, N counted down from here.
const LAST_POD_NETWORK: u8 = 250;
/// How much of the address of the service `kubernetes` names the range, on servers that do not tell their range.
const USUAL_PREFIX: u8 = 16;

/// The range of service addresses.
///
/// # Errors
/// The API server does not answer, or its services have no IPv4 addresses.
pub async fn service_range(client: &Client) -> Result<Ipv4Net> {
    // Servers before 1.33 do not have these objects.
    let ranges = Api::<ServiceCIDR>::all(client.clone()).get_opt("kubernetes").await;
    let told = ranges.ok().flatten().and_then(|range| range.spec).and_then(|spec| {
        let mut texts = spec.cidrs.unwrap_or_default().into_iter();
        texts.find_map(|text| text.parse::<Ipv4Net>().ok())
    });
    if let Some(range) = told {
        return Ok(range.trunc());
    }
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service = services
        .get("kubernetes")
        .await
        .context("cannot read the service default/kubernetes")?;
    let address = service.spec.and_then(|spec| spec.cluster_ip);
    let address = address.and_then(|text| text.parse().ok());
    let address = address.context("the service default/kubernetes has no IPv4 address: give --service-cidr")?;
    Ok(Ipv4Net::new(address, USUAL_PREFIX)?.trunc())
}

/// The range of the node's pods: `asked` for, or what the node has already, or one that no other node has.
///
/// # Errors
/// The API server does not answer, the range is another node's, or none is left.
pub async fn pod_range(client: &Client, name: &str, asked: Option<Ipv4Net>) -> Result<Ipv4Net> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
    choose(&nodes.context("cannot list the nodes")?.items, name, asked)
}

fn choose(nodes: &[Node], name: &str, asked: Option<Ipv4Net>) -> Result<Ipv4Net> {
    let range = |node: &Node| node.spec.as_ref()?.pod_cidr.as_ref()?.parse::<Ipv4Net>().ok();
    let own = nodes.iter().find(|node| node.name_any() == name).and_then(range);
    let others = || nodes.iter().filter(|node| node.name_any() != name);
    let overlaps = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    if let Some(wanted) = asked.or(own) {
        let taken = others().find(|node| range(node).is_some_and(|other| overlaps(&wanted, &other)));
        if let Some(node) = taken {
            bail!(
                "node {} has the addresses {wanted} already: give --pod-cidr",
                node.name_any()
            );
        }
        return Ok(wanted);
    }
    let free = |candidate: &Ipv4Net| others().filter_map(range).all(|other| !overlaps(candidate, &other));
    (1..=LAST_POD_NETWORK)
        .rev()
        .filter_map(|n| Ipv4Net::new(std::net::Ipv4Addr::new(10, 244, n, 0), 24).ok())
        .find(free)
        .context("other nodes have all of 10.244.0.0/16: give --pod-cidr")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn check(nodes: &[(&str, &str)], asked: Option<&str>, expected: Result<&str, &str>) {
        let node = |(name, range): &(&str, &str)| {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"podCIDR": range}})).unwrap()
        };
        let nodes: Vec<Node> = nodes.iter().map(node).collect();
        let got = choose(&nodes, "me", asked.map(|text| text.parse().unwrap()));
        let got = got.map(|range| range.to_string()).map_err(|error| error.to_string());
        assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn a_node_takes_what_nobody_has() {
        check(&[], None, Ok("10.244.250.0/24"));
        check(
            &[("a", "10.244.250.0/24"), ("b", "10.244.0.0/24")],
            None,
            Ok("10.244.249.0/24"),
        );
        check(&[("me", "10.9.0.0/24")], None, Ok("10.9.0.0/24"));
        check(&[("a", "10.9.0.0/24")], Some("10.8.0.0/24"), Ok("10.8.0.0/24"));
        check(
            &[("a", "10.9.0.0/24")],
            Some("10.9.0.0/16"),
            Err("node a has the addresses 10.9.0.0/16 already: give --pod-cidr"),
        );
        check(
            &[("a", "10.244.0.0/16")],
            None,
            Err("other nodes have all of 10.244.0.0/16: give --pod-cidr"),
        );
    }
}
