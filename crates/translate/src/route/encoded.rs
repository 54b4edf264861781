//! Routes as fields of a virtual host. What many have in common is encoded once: metadata, and retries by default.

use api::networking::virtual_service::HttpRetry;
use bytes::{Bytes, BytesMut};
use prost::Message;
use xds::envoy::config::route::v3::{Route, RouteAction, route};

use super::retry;
use crate::graph::Cx;
use crate::wire;

// Numbers of fields: of a virtual host, of a route, of its action.
const ROUTES: u32 = 3;
const ACTION: u32 = 2;
const METADATA: u32 = 4;
const RETRIES: u32 = 9;

/// What routes that do the same have in common, encoded.
pub(super) struct Shared(Vec<u8>);

impl Shared {
    /// Of a route whose metadata and retries are encoded; no retries are none.
    pub(super) fn new(mut route: Route, metadata: Option<&[u8]>, retries: &[u8]) -> Self {
        let action = match route.action.take() {
            Some(route::Action::Route(action)) => Some(forward(&action, retries)),
            other => {
                route.action = other;
                None
            }
        };
        Self(wire::encode_with(
            &route,
            [(ACTION, action.as_deref()), (METADATA, metadata)],
        ))
    }

    /// Adds one of the routes to a virtual host: what it has of its own, and this.
    pub(super) fn write(&self, own: &Route, out: &mut BytesMut) {
        let own = own.encode_to_vec();
        let length = own.len() + self.0.len();
        out.reserve(wire::len(ROUTES, length));
        wire::put_head(ROUTES, length, out);
        wire::merge(&own, &self.0, out);
    }
}

/// An action that leads to clusters; no retries are none.
fn forward(action: &RouteAction, retries: &[u8]) -> Vec<u8> {
    let retries = Some(retries).filter(|retries| !retries.is_empty());
    wire::encode_with(action, [(RETRIES, retries)])
}

/// Adds a route that has nothing in common with others to a virtual host.
pub(super) fn write_forward(route: &Route, action: &RouteAction, retries: &[u8], out: &mut BytesMut) {
    let action = forward(action, retries);
    wire::put(ROUTES, &wire::encode_with(route, [(ACTION, Some(&action))]), out);
}

/// Retries, if there are any.
pub(super) fn retries(setting: Option<&HttpRetry>, hashed: bool) -> Bytes {
    let policy = retry::outbound(setting, hashed);
    policy.map(|policy| policy.encode_to_vec().into()).unwrap_or_default()
}

/// The answer to [`crate::query::Query::Retries`]: retries of a route that says nothing of them.
pub(crate) fn default_retries(cx: &mut Cx<'_>, hashed: bool) -> Bytes {
    let mesh = cx.mesh();
    retries(mesh.default_http_retry_policy.as_ref(), hashed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::proto;
    use crate::wire::Fields;
    use xds::envoy::config::route::v3::{VirtualHost, route_action};

    #[test]
    fn pieces_are_the_same_bytes_as_one_message() {
        let policy = retry::outbound(None, false).unwrap();
        let mut action = RouteAction {
            cluster_specifier: Some(route_action::ClusterSpecifier::Cluster("a".to_owned())),
            prefix_rewrite: "/b".to_owned(),
            host_rewrite_specifier: Some(route_action::HostRewriteSpecifier::HostRewriteLiteral("c".to_owned())),
            timeout: Some(proto::seconds(1)),
            max_grpc_timeout: Some(proto::seconds(2)),
            hash_policy: vec![route_action::HashPolicy::default()],
            request_mirror_policies: vec![route_action::RequestMirrorPolicy::default()],
            ..Default::default()
        };
        let own = Route {
            name: "name".to_owned(),
            r#match: Some(super::super::everything()),
            stat_prefix: "prefix".to_owned(),
            ..Default::default()
        };
        let shared = Route {
            action: Some(route::Action::Route(action.clone())),
            response_headers_to_remove: vec!["h".to_owned()],
            ..Default::default()
        };
        let metadata = Fields::default().text("config", "path").metadata("istio");
        let mut pieces = BytesMut::new();
        Shared::new(shared.clone(), Some(&metadata), &policy.encode_to_vec()).write(&own, &mut pieces);
        action.retry_policy = Some(policy);
        let route = Route {
            action: Some(route::Action::Route(action)),
            metadata: Some(proto::metadata([(
                "istio",
                proto::fields_of([("config", proto::text("path"))]),
            )])),
            response_headers_to_remove: shared.response_headers_to_remove,
            ..own
        };
        let redirects = Route {
            action: Some(route::Action::Redirect(Default::default())),
            ..Default::default()
        };
        Shared::new(redirects.clone(), None, &[]).write(&Route::default(), &mut pieces);
        let whole = VirtualHost {
            routes: vec![route, redirects],
            ..Default::default()
        };
        assert_eq!(whole.encode_to_vec(), pieces);
    }
}
