//! Networks of the mesh, and the registries they name.

use super::fields::{list, text};
use crate::message::{Message, UNKNOWN_SERVICE_REGISTRY};
use crate::objects::{Objects, labels};

/// Registries that are known without any cluster.
const KNOWN: [&str; 3] = ["Mock", "Kubernetes", "External"];
/// Label of secrets that hold the access to other clusters, under the clusters' names.
const CLUSTERS: &str = "istio/multiCluster";

pub(super) fn registries(objects: &Objects, messages: &mut Vec<Message>) {
    let clusters: Vec<&str> = objects
        .of_kind("Secret")
        .filter(|secret| labels(secret).get(CLUSTERS).is_some_and(|value| value == "true"))
        .flat_map(|secret| ["data", "stringData"].map(|field| secret[field].as_object()))
        .flatten()
        .flat_map(|data| data.keys().map(String::as_str))
        .collect();
    let configuration = objects.mesh_networks();
    let networks = configuration["networks"].as_object().into_iter().flatten();
    for (network, of) in networks {
        for endpoints in list(of, "/endpoints") {
            let registry = text(endpoints, "/fromRegistry");
            if endpoints.get("fromRegistry").is_some() && !KNOWN.contains(&registry) && !clusters.contains(&registry) {
                messages.push(Message::of_mesh_networks(
                    UNKNOWN_SERVICE_REGISTRY,
                    format!("Unknown service registry {registry} in network {network}"),
                ));
            }
        }
    }
}
