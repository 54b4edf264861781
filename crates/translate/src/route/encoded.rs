//! Routes as fields of a virtual host. What many have in common is encoded once: metadata, and retries by default.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use xds::envoy::config::route::v3::{Route, RouteAction, route};

use super::retry;
use crate::graph::Cx;

// Numbers of fields: of a virtual host, of a route, of its action.
const ROUTES: u32 = 3;
const ACTION: u32 = 2;
const METADATA: u32 = 4;
const RETRIES: u32 = 9;

/// A route whose metadata and retries are encoded; empty ones are none.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) route: Route,
    pub(super) metadata: Bytes,
    pub(super) retries: Bytes,
}

/// The answer to [`crate::query::Query::Retries`]: retries of a route that says nothing of them.
pub(crate) fn default_retries(cx: &mut Cx<'_>, hashed: bool) -> Bytes {
    let mesh = cx.mesh();
    let policy = retry::outbound(mesh.default_http_retry_policy.as_ref(), hashed);
    policy.map(|policy| policy.encode_to_vec().into()).unwrap_or_default()
}

/// Metadata that names an object by its path, as [`crate::proto::metadata`] would be encoded.
pub(super) fn config_metadata(path: &str) -> Bytes {
    // Numbers of fields: of a map's entries, of a value, and of the one field that `Metadata` and `Struct` have here.
    const KEY: u32 = 1;
    const VALUE: u32 = 2;
    const TEXT: u32 = 3;
    const ENTRIES: u32 = 1;
    const NAMES: [&str; 2] = ["config", "istio"];
    let of_value = field_len(TEXT, path.len());
    let lengths = NAMES.iter().scan(of_value, |length, name| {
        let entry = field_len(KEY, name.len()) + field_len(VALUE, *length);
        let outer = std::mem::replace(length, field_len(ENTRIES, entry));
        Some((entry, outer))
    });
    let lengths: Vec<(usize, usize)> = lengths.collect();
    let mut out = BytesMut::new();
    for (name, (entry, value)) in NAMES.iter().zip(&lengths).rev() {
        put_head(ENTRIES, *entry, &mut out);
        put_head(KEY, name.len(), &mut out);
        out.put_slice(name.as_bytes());
        put_head(VALUE, *value, &mut out);
    }
    put_head(TEXT, path.len(), &mut out);
    out.put_slice(path.as_bytes());
    out.freeze()
}

fn field_len(number: u32, length: usize) -> usize {
    key_len(number) + encoded_len_varint(length as u64) + length
}

fn put_head(number: u32, length: usize, out: &mut BytesMut) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// Fields come in the order of their numbers, as if the message were encoded in one piece.
pub(super) fn write(draft: Draft, out: &mut BytesMut) {
    let mut rest = draft.route;
    let head = Route {
        r#match: rest.r#match.take(),
        ..Default::default()
    };
    let action = match rest.action.take() {
        Some(route::Action::Route(action)) => Some(Action::new(action, &draft.retries)),
        other => {
            rest.action = other;
            None
        }
    };
    // Other actions stand where this one does, before the metadata.
    let other = Route {
        action: rest.action.take(),
        ..Default::default()
    };
    let metadata_len = match draft.metadata.len() {
        0 => 0,
        length => field_len(METADATA, length),
    };
    let length = head.encoded_len()
        + action.as_ref().map_or(0, |action| field_len(ACTION, action.length))
        + other.encoded_len()
        + metadata_len
        + rest.encoded_len();
    out.reserve(field_len(ROUTES, length));
    put_head(ROUTES, length, out);
    head.encode_raw(out);
    if let Some(action) = action {
        action.write(out);
    }
    other.encode_raw(out);
    if metadata_len > 0 {
        put_head(METADATA, draft.metadata.len(), out);
        out.put_slice(&draft.metadata);
    }
    rest.encode_raw(out);
}

/// An action in three pieces: what comes before its retries, the retries, and what comes after.
struct Action<'a> {
    before: RouteAction,
    retries: &'a [u8],
    after: RouteAction,
    length: usize,
}

impl<'a> Action<'a> {
    fn new(mut after: RouteAction, retries: &'a [u8]) -> Self {
        let before = RouteAction {
            cluster_specifier: after.cluster_specifier.take(),
            metadata_match: after.metadata_match.take(),
            prefix_rewrite: std::mem::take(&mut after.prefix_rewrite),
            host_rewrite_specifier: after.host_rewrite_specifier.take(),
            timeout: after.timeout.take(),
            ..Default::default()
        };
        let of_retries = match retries.len() {
            0 => 0,
            length => field_len(RETRIES, length),
        };
        Self {
            length: before.encoded_len() + of_retries + after.encoded_len(),
            before,
            retries,
            after,
        }
    }

    fn write(&self, out: &mut BytesMut) {
        put_head(ACTION, self.length, out);
        self.before.encode_raw(out);
        if !self.retries.is_empty() {
            put_head(RETRIES, self.retries.len(), out);
            out.put_slice(self.retries);
        }
        self.after.encode_raw(out);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::proto;
    use xds::envoy::config::route::v3::{VirtualHost, route_action};

    #[test]
    fn pieces_are_the_same_bytes_as_one_message() {
        let policy = retry::outbound(None, false).unwrap();
        let metadata = proto::metadata([("istio", proto::fields_of([("config", proto::text("path"))]))]);
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
        let mut route = Route {
            name: "name".to_owned(),
            r#match: Some(super::super::everything()),
            action: Some(route::Action::Route(action.clone())),
            stat_prefix: "prefix".to_owned(),
            ..Default::default()
        };
        let mut pieces = BytesMut::new();
        let draft = Draft {
            route: route.clone(),
            metadata: config_metadata("path"),
            retries: policy.encode_to_vec().into(),
        };
        write(draft, &mut pieces);
        action.retry_policy = Some(policy);
        route.action = Some(route::Action::Route(action));
        route.metadata = Some(metadata);
        let redirects = Route {
            action: Some(route::Action::Redirect(Default::default())),
            ..Default::default()
        };
        let draft = Draft {
            route: redirects.clone(),
            ..Draft::default()
        };
        write(draft, &mut pieces);
        let whole = VirtualHost {
            routes: vec![route, redirects],
            ..Default::default()
        };
        assert_eq!(whole.encode_to_vec(), pieces);
    }
}
