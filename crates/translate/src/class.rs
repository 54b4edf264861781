//! What a class is owed, put together from shared parts and its own.

use std::sync::Arc;

use xds::resource::ResourceSet;

use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::proxy::ProxyClass;
use crate::query::Query;
use crate::resource_type::ResourceType;
use crate::{cluster, listener, name_table, route, secret};

pub(crate) fn resources(
    cx: &mut Cx<'_>,
    class: &ProxyClass,
    _id: ClassId,
    resource_type: ResourceType,
) -> Arc<ResourceSet> {
    match resource_type {
        ResourceType::Cluster => Arc::new(ResourceSet::new(cluster::of_class(cx, class))),
        ResourceType::Endpoints => endpoints(cx, class),
        ResourceType::Listener => Arc::new(ResourceSet::new(listener::of_class(cx, class))),
        ResourceType::Route => Arc::new(ResourceSet::new(route::of_class(cx, class))),
        ResourceType::Secret => secret::of_class(cx, class),
        ResourceType::NameTable => name_table::of_class(cx, class),
        ResourceType::Extension => Arc::default(),
    }
}

/// Endpoints of all clusters; most classes share one set.
fn endpoints(cx: &mut Cx<'_>, class: &ProxyClass) -> Arc<ResourceSet> {
    let client = Client {
        preserve_case: false,
        attempt_count: true,
        ..Client::scoped(cx, class)
    };
    let plain = cx.set(Query::Outbound(Arc::new(client.clone()), ResourceType::Endpoints));
    if !cluster::passes_through(cx, class) {
        return plain;
    }
    let client = Arc::new(Client {
        through: true,
        ..client
    });
    let through = cx.set(Query::Outbound(client, ResourceType::Endpoints));
    Arc::new(ResourceSet::new(plain.iter().chain(through.iter()).cloned()))
}
