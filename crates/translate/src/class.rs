//! What a class is owed, put together from shared parts and its own.

use std::sync::Arc;

use xds::resource::{Resource, ResourceSet};

use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::proxy::{ProxyClass, Role};
use crate::query::Query;
use crate::resource_type::ResourceType;
use crate::{cluster, endpoint, envoy_filter, listener, name_table, route, secret};

pub(crate) fn resources(
    cx: &mut Cx<'_>,
    class: &ProxyClass,
    id: ClassId,
    resource_type: ResourceType,
) -> Arc<ResourceSet> {
    match resource_type {
        ResourceType::Cluster => {
            let (shared, own) = cluster::of_class(cx, class, id);
            if !envoy_filter::concerns(cx, class) {
                return Arc::new(ResourceSet::over(shared, own));
            }
            let clusters = shared.iter().cloned().chain(own).collect();
            patched(cx, class, id, resource_type, clusters)
        }
        ResourceType::Endpoints => endpoints(cx, class, id),
        ResourceType::Listener => {
            let listeners = listener::of_class(cx, id);
            patched(cx, class, id, resource_type, listeners)
        }
        ResourceType::Route if class.role == Role::Sidecar && !envoy_filter::concerns(cx, class) => {
            let routes = route::of_sidecar(cx, class);
            cx.same_set(&routes)
        }
        ResourceType::Route => {
            let routes = route::of_class(cx, class, id);
            patched(cx, class, id, resource_type, routes)
        }
        ResourceType::Secret => secret::of_class(cx, class, id),
        ResourceType::NameTable => name_table::of_class(cx, class),
        ResourceType::Extension => Arc::new(ResourceSet::new(envoy_filter::extensions(cx, class))),
    }
}

fn patched(
    cx: &mut Cx<'_>,
    class: &ProxyClass,
    id: ClassId,
    resource_type: ResourceType,
    resources: Vec<Arc<Resource>>,
) -> Arc<ResourceSet> {
    Arc::new(ResourceSet::new(envoy_filter::apply(
        cx,
        class,
        id,
        resource_type,
        resources,
    )))
}

/// Endpoints of all clusters; most classes share one set.
fn endpoints(cx: &mut Cx<'_>, class: &ProxyClass, id: ClassId) -> Arc<ResourceSet> {
    let client = Client::scoped(cx, class);
    let seen = cx.seen_of(&client.scope());
    let view = endpoint::view(cx, &client);
    let plain = Query::OutboundEndpoints(view, seen.clone());
    if !cluster::passes_through(cx, class, id) {
        return cx.same_set(&plain);
    }
    let plain = cx.set(&plain);
    let client = Client {
        through: true,
        ..client
    };
    let view = endpoint::view(cx, &client);
    let through = cx.set(&Query::OutboundEndpoints(view, seen));
    Arc::new(ResourceSet::over(plain, through.iter().cloned()))
}
