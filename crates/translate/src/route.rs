//! Route configurations (RDS), and the routes inside inbound listeners.

mod action;
pub(crate) mod bound;
mod condition;
pub(crate) mod domains;
pub(crate) mod encoded;
pub(crate) mod gateway;
mod hash;
mod headers;
mod http;
pub(crate) mod kept;
pub(crate) mod made;
mod retry;
mod sidecar;
pub(crate) mod virtual_services;

pub(crate) use sidecar::{Sniffed, outbound, sniffed};

use std::sync::Arc;

use api::mesh_config::MeshConfig;
use mesh::Protocol;
use xds::envoy::config::route::v3::{self as route_v3, RouteConfiguration, VirtualHost, route};
use xds::resource::Resource;

use crate::client::Client;
use crate::graph::{ClassId, Cx};
use crate::proto;
use crate::proxy::{ProxyClass, Role};
use crate::query::Query;

/// Longest body of a direct response, in bytes.
const MAX_DIRECT_RESPONSE: u32 = 1 << 20;

/// Everything that a class is owed.
pub(crate) fn of_class(cx: &mut Cx<'_>, class: &ProxyClass, id: ClassId) -> Vec<Arc<Resource>> {
    match class.role {
        Role::Sidecar => {
            let routes = of_sidecar(cx, class);
            cx.set(&routes).iter().cloned().collect()
        }
        Role::Router => gateway::configurations(cx, class, id),
    }
}

/// The question for the routes of a sidecar, which all whose routes are the same ask.
pub(crate) fn of_sidecar(cx: &mut Cx<'_>, class: &ProxyClass) -> Query {
    let mut client = Client {
        locality: None,
        node: None,
        preserve_case: false,
        ..Client::scoped(cx, class)
    };
    if !cx.selects_by_labels(client.scope()) {
        client.labels = None;
    }
    Query::OutboundRoutes(Arc::new(client))
}

/// The match of everything.
fn everything() -> route_v3::RouteMatch {
    route_v3::RouteMatch {
        path_specifier: Some(route_v3::route_match::PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    }
}

/// Routes of an inbound listener: everything goes to the workload.
pub(crate) fn inbound(
    mesh: &MeshConfig,
    cluster: &str,
    host: &str,
    service_port: u16,
    protocol: Protocol,
) -> RouteConfiguration {
    let grpc = matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb);
    let action = route_v3::RouteAction {
        cluster_specifier: Some(route_v3::route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: Some(proto::seconds(0)),
        max_stream_duration: Some(route_v3::route_action::MaxStreamDuration {
            max_stream_duration: Some(proto::seconds(0)),
            grpc_timeout_header_max: Some(proto::seconds(0)),
            ..Default::default()
        }),
        retry_policy: if grpc {
            None
        } else {
            retry::inbound(mesh.default_inbound_http_retry_policy.as_ref())
        },
        ..Default::default()
    };
    let route = route_v3::Route {
        name: "default".to_owned(),
        r#match: Some(everything()),
        decorator: Some(route_v3::Decorator {
            operation: format!("{host}:{service_port}/*"),
            ..Default::default()
        }),
        action: Some(route::Action::Route(action)),
        ..Default::default()
    };
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: format!("inbound|http|{service_port}"),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            ..Default::default()
        }],
        validate_clusters: Some(proto::bool_value(false)),
        ..Default::default()
    }
}
