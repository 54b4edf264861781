//! Patches of clusters.

use std::sync::Arc;

use prost::Message;
use xds::envoy::config::cluster::v3::Cluster;
use xds::google::protobuf::{Any, value::Kind};
use xds::resource::Resource;

use super::{Operation, Patch, Patches, Side, merge};
use crate::naming;
use crate::proxy::ProxyClass;

pub(super) fn apply(patches: &Patches, class: &ProxyClass, resources: Vec<Arc<Resource>>) -> Vec<Arc<Resource>> {
    let mut list: Vec<Arc<Resource>> = resources
        .into_iter()
        .filter_map(|resource| patched(patches, class, resource))
        .collect();
    let sides: &[Side] = if class.is_sidecar() {
        &[Side::Outbound, Side::Inbound]
    } else {
        &[Side::Gateway]
    };
    for patch in sides.iter().flat_map(|side| patches.of("CLUSTER", *side)) {
        if patch.operation == Operation::Add
            && let Ok(cluster) = xds::json::from_json::<Cluster>(&patch.value)
        {
            list.push(Arc::new(Resource::encode(cluster.name.as_str(), &cluster)));
        }
    }
    list
}

fn side(class: &ProxyClass, name: &str) -> Side {
    if !class.is_sidecar() {
        Side::Gateway
    } else if name.starts_with("inbound|") || name == naming::INBOUND_PASSTHROUGH {
        Side::Inbound
    } else {
        Side::Outbound
    }
}

/// The cluster with its patches; none if one removes it, the same if none is for it.
fn patched(patches: &Patches, class: &ProxyClass, resource: Arc<Resource>) -> Option<Arc<Resource>> {
    let side = side(class, &resource.name);
    let mut cluster: Option<Cluster> = None;
    for patch in patches.of("CLUSTER", side).filter(|p| p.operation != Operation::Add) {
        if cluster.is_none() {
            cluster = decode(&resource);
        }
        let Some(message) = cluster.as_mut() else { break };
        if !matches(patch, message) {
            continue;
        }
        match patch.operation {
            Operation::Remove => return None,
            Operation::Merge => drop(merge::into(message, &patch.value)),
            _ => {}
        }
    }
    match cluster {
        Some(cluster) => Some(Arc::new(Resource::encode(cluster.name.as_str(), &cluster))),
        None => Some(resource),
    }
}

fn decode(resource: &Resource) -> Option<Cluster> {
    let any = Any::decode(resource.body.to_bytes()).ok()?;
    Cluster::decode(any.value).ok()
}

fn matches(patch: &Patch, cluster: &Cluster) -> bool {
    if let Some(name) = patch.text("/cluster/name") {
        return name == cluster.name;
    }
    let mut parts = cluster.name.split('|').skip(1);
    let port: Option<u32> = parts.next().and_then(|p| p.parse().ok());
    let subset = parts.next().unwrap_or_default();
    patch.text("/cluster/subset").is_none_or(|s| s == subset)
        && patch.number("/cluster/portNumber").is_none_or(|p| port == Some(p))
        && patch
            .text("/cluster/service")
            .is_none_or(|host| hosts(cluster).any(|h| h == host))
}

/// Hosts of the services that a cluster is for.
fn hosts(cluster: &Cluster) -> impl Iterator<Item = &str> {
    let of_name = cluster.name.split('|').nth(3).filter(|h| !h.is_empty());
    let istio = cluster.metadata.as_ref().and_then(|m| m.filter_metadata.get("istio"));
    let services = match istio.and_then(|i| i.fields.get("services")?.kind.as_ref()) {
        Some(Kind::ListValue(list)) => list.values.as_slice(),
        _ => &[],
    };
    let of_metadata = services.iter().filter_map(|service| match service.kind.as_ref()? {
        Kind::StructValue(fields) => match fields.fields.get("host")?.kind.as_ref()? {
            Kind::StringValue(host) => Some(host.as_str()),
            _ => None,
        },
        _ => None,
    });
    of_name.into_iter().chain(of_metadata)
}
