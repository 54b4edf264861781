//! Clusters (CDS): one per service port and subset, the fixed ones, and one per port of the own workload.

mod draft;
mod fixed;
mod inbound;
mod outbound;
mod policy;
mod upstream_tls;

pub(crate) use inbound::{Inbound, Target, served, targets};
pub(crate) use outbound::{of_service, outbound};
pub(crate) use upstream_tls::metadata_exchange;

use std::sync::Arc;

use mesh::Input;
use xds::resource::{Resource, ResourceSet};

use crate::client::Client;
use crate::graph::Cx;
use crate::listener::merged_servers;
use crate::proxy::ProxyClass;
use crate::query::Query;

/// Everything that a class is owed: what it shares with others, and what lies over that.
pub(crate) fn of_class(cx: &mut Cx<'_>, class: &ProxyClass) -> (Arc<ResourceSet>, Vec<Arc<Resource>>) {
    let client = Client::scoped(cx, class);
    let scope = cx.scope_of(client.scope());
    let view = outbound::view(cx, &client);
    let outbound = cx.set(&Query::OutboundClusters(view, scope.seen.clone()));
    let mesh = cx.read(Input::Mesh).mesh.clone();
    let mut resources = vec![encode(&fixed::black_hole(&mesh))];
    if passes_through(cx, class) {
        let client = Client {
            through: true,
            ..Client::of_class(class)
        };
        let view = outbound::view(cx, &client);
        let through = cx.set(&Query::OutboundClusters(view, scope.seen.clone()));
        resources.extend(through.iter().cloned());
    }
    if class.is_sidecar() {
        resources.push(encode(&fixed::passthrough(&mesh, class)));
        resources.push(encode(&fixed::inbound_passthrough(&mesh, class)));
        resources.extend(inbound::clusters(cx, class, &scope).iter().map(encode));
    }
    (outbound, resources)
}

/// Whether a gateway passes mutual TLS through to any service.
pub(crate) fn passes_through(cx: &mut Cx<'_>, class: &ProxyClass) -> bool {
    !class.is_sidecar()
        && merged_servers(cx, class)
            .groups
            .iter()
            .any(|g| g.servers.iter().any(|s| s.mode() == "AUTO_PASSTHROUGH"))
}

fn encode(cluster: &xds::envoy::config::cluster::v3::Cluster) -> Arc<Resource> {
    Arc::new(Resource::encode(cluster.name.as_str(), cluster))
}
