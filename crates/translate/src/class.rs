//! What a class is owed, put together from shared parts and its own.

use std::sync::Arc;

use xds::resource::{Resource, ResourceSet};

use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::proxy::ProxyClass;
use crate::query::Query;
use crate::resource_type::ResourceType;
use crate::{cluster, envoy_filter, listener, name_table, route, secret};

pub(crate) fn resources(
    cx: &mut Cx<'_>,
    class: &ProxyClass,
    _id: ClassId,
    resource_type: ResourceType,
) -> Arc<ResourceSet> {
    match resource_type {
        ResourceType::Cluster => {
            let clusters = cluster::of_class(cx, class);
            patched(cx, class, resource_type, clusters)
        }
        ResourceType::Endpoints => endpoints(cx, class),
        ResourceType::Listener => {
            let listeners = listener::of_class(cx, class);
            patched(cx, class, resource_type, listeners)
        }
        ResourceType::Route => {
            let routes = route::of_class(cx, class);
            patched(cx, class, resource_type, routes)
        }
        ResourceType::Secret => secret::of_class(cx, class),
        ResourceType::NameTable => name_table::of_class(cx, class),
        ResourceType::Extension => Arc::new(ResourceSet::new(envoy_filter::extensions(cx, class))),
    }
}

fn patched(
    cx: &mut Cx<'_>,
    class: &ProxyClass,
    resource_type: ResourceType,
    resources: Vec<Arc<Resource>>,
) -> Arc<ResourceSet> {
    Arc::new(ResourceSet::new(envoy_filter::apply(
        cx,
        class,
        resource_type,
        resources,
    )))
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
