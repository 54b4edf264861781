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

use xds::resource::{Resource, ResourceSet};

use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::proxy::ProxyClass;
use crate::query::Query;
use crate::scope;

/// Everything that a class is owed: what it shares with others, and what lies over that.
pub(crate) fn of_class(cx: &mut Cx<'_>, class: &ProxyClass, id: ClassId) -> (Arc<ResourceSet>, Vec<Arc<Resource>>) {
    let client = Client::scoped(cx, class);
    let seen = cx.seen_of(&client.scope());
    let view = outbound::view(cx, &client);
    let outbound = cx.set(&Query::OutboundClusters(view, seen.clone()));
    let mesh = cx.mesh().clone();
    let mut resources = vec![fixed::black_hole(&mesh)];
    if passes_through(cx, class, id) {
        let through = Client {
            through: true,
            ..Client::of_class(class)
        };
        let view = outbound::view(cx, &through);
        let through = cx.set(&Query::OutboundClusters(view, seen.clone()));
        resources.extend(through.iter().cloned());
    }
    if class.is_sidecar() {
        resources.push(fixed::passthrough(&mesh, class));
        resources.push(fixed::inbound_passthrough(&mesh, class));
        let sidecar = scope::sidecar(cx, &client.scope());
        resources.extend(inbound::clusters(cx, class, id, sidecar.as_deref()));
    }
    (outbound, resources)
}

/// Whether a gateway passes mutual TLS through to any service.
pub(crate) fn passes_through(cx: &mut Cx<'_>, class: &ProxyClass, id: ClassId) -> bool {
    !class.is_sidecar() && cx.passes_through(id)
}
