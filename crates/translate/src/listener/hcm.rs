//! The HTTP connection manager: one function, for every place that has one. Most of it is the same in all chains of a
//! class that have one; that is made once.

use api::lenient::Duration;
use bytes::{Bytes, BytesMut};
use mesh::Protocol;
use prost::encoding::message;
use prost::{Message, Name};
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::Filter;
use xds::envoy::config::route::v3::RouteConfiguration;
use xds::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, RequestIdExtension, http_connection_manager as hcm,
};
use xds::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use xds::google::protobuf::Any;

use super::{Common, Traffic, filters};
use crate::graph::{ClassId, Cx};
use crate::proto;
use crate::proxy::Flavour;
use crate::query::Query;
use crate::wire;

/// Where routes come from.
pub(super) enum Routes {
    /// Asked for by name.
    Named(String),
    /// Part of the listener.
    Inline(Box<RouteConfiguration>),
}

/// What HTTP/1 options say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Http1 {
    /// Nothing, unless the proxy's settings do.
    Unstated,
    /// What they say by default.
    Default,
    /// That clients know a proxy.
    AbsoluteUrls,
}

/// What most of a connection manager hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sort {
    pub(super) traffic: Traffic,
    pub(super) protocol: Protocol,
    /// Whether the port's protocol is found out by looking: then servers tell HTTP by its ALPN.
    pub(super) sniffed: bool,
    pub(super) http1: Http1,
}

/// What differs between connection managers.
pub(super) struct Options {
    pub(super) sort: Sort,
    pub(super) stat_prefix: String,
    pub(super) routes: Routes,
    /// Filter that resolves the name a request is for.
    pub(super) resolver: Option<HttpFilter>,
}

pub(super) fn filter(cx: &mut Cx<'_>, common: &Common, options: Options) -> Filter {
    // Numbers of the fields that come before all others.
    const STAT_PREFIX: u32 = 2;
    const RDS: u32 = 3;
    const ROUTES: u32 = 4;
    let rest = match options.resolver {
        None => cx.bytes(&Query::Manager(common.id, options.sort)),
        resolver => manager(common, options.sort, resolver).encode_to_vec().into(),
    };
    let mut value = BytesMut::with_capacity(rest.len() + options.stat_prefix.len() + 512);
    wire::put(STAT_PREFIX, options.stat_prefix.as_bytes(), &mut value);
    match options.routes {
        Routes::Named(name) => {
            let rds = Rds {
                config_source: Some(proto::ads()),
                route_config_name: name,
            };
            message::encode(RDS, &rds, &mut value);
        }
        Routes::Inline(routes) => message::encode(ROUTES, &*routes, &mut value),
    }
    value.extend_from_slice(&rest);
    let any = Any {
        type_url: HttpConnectionManager::type_url(),
        value: value.freeze(),
    };
    filters::network("envoy.filters.network.http_connection_manager", any)
}

/// The answer to [`Query::Manager`]: what comes after prefix and routes.
pub(crate) fn rest(cx: &mut Cx<'_>, id: ClassId, sort: Sort) -> Bytes {
    match cx.common(id) {
        Some(common) => manager(&common, sort, None).encode_to_vec().into(),
        None => Bytes::new(),
    }
}

/// A connection manager without its prefix and its routes.
fn manager(common: &Common, options: Sort, resolver: Option<HttpFilter>) -> HttpConnectionManager {
    let class = &common.class;
    let (normalize, merge, escaped) = match common.mesh.path_normalization.normalization.as_deref() {
        Some("NONE") => (false, false, hcm::PathWithEscapedSlashesAction::KeepUnchanged),
        Some("MERGE_SLASHES") => (true, true, hcm::PathWithEscapedSlashesAction::KeepUnchanged),
        Some("DECODE_AND_MERGE_SLASHES") => (true, true, hcm::PathWithEscapedSlashesAction::UnescapeAndForward),
        _ => (true, false, hcm::PathWithEscapedSlashesAction::KeepUnchanged),
    };
    let mut http1 = match options.http1 {
        Http1::Unstated => None,
        Http1::Default => Some(core::Http1ProtocolOptions::default()),
        Http1::AbsoluteUrls => Some(core::Http1ProtocolOptions {
            allow_absolute_url: Some(proto::bool_value(true)),
            ..Default::default()
        }),
    };
    let settings = &class.settings;
    if settings.preserve_case {
        http1.get_or_insert_default().header_key_format = Some(crate::settings::preserve_case());
    }
    let (server_name, server_header) = settings.server(options.traffic == Traffic::Outbound);
    if class.http10 {
        http1.get_or_insert_default().accept_http_10 = true;
    }
    let mut manager = HttpConnectionManager {
        server_name,
        server_header_transformation: server_header as i32,
        generate_request_id: settings.no_request_ids.then(|| proto::bool_value(false)),
        access_log: common.telemetry.access_logs(options.traffic),
        tracing: common.telemetry.tracing(options.traffic),
        normalize_path: Some(proto::bool_value(normalize)),
        merge_slashes: merge,
        path_with_escaped_slashes_action: escaped as i32,
        proxy_100_continue: true,
        use_remote_address: Some(proto::bool_value(options.traffic == Traffic::Gateway)),
        stream_idle_timeout: Some(proto::seconds(0)),
        upgrade_configs: vec![hcm::UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        request_id_extension: Some(RequestIdExtension {
            typed_config: Some(proto::any(&UuidRequestIdConfig {
                use_request_id_for_trace_sampling: Some(proto::bool_value(
                    common.telemetry.traces_by_request_id(options.traffic),
                )),
                ..Default::default()
            })),
        }),
        http_protocol_options: http1,
        common_http_protocol_options: class
            .idle_timeout
            .as_deref()
            .and_then(|t| t.parse::<Duration>().ok())
            .map(|idle| core::HttpProtocolOptions {
                idle_timeout: Some(proto::duration(idle)),
                ..Default::default()
            }),
        http_filters: http_filters(common, options.traffic, options.protocol, options.sniffed, resolver),
        ..Default::default()
    };
    if options.traffic == Traffic::Outbound {
        return manager;
    }
    let gateway = options.traffic == Traffic::Gateway;
    let details = settings.client_certificate(gateway);
    manager.forward_client_cert_details = details as i32;
    // A gateway that only hands on what it gets adds nothing.
    let adds = [
        hcm::ForwardClientCertDetails::AppendForward,
        hcm::ForwardClientCertDetails::SanitizeSet,
    ];
    if !gateway || adds.contains(&details) {
        manager.set_current_client_cert_details = Some(hcm::SetCurrentClientCertDetails {
            subject: Some(proto::bool_value(true)),
            dns: true,
            uri: true,
            cert: gateway,
            ..Default::default()
        });
    }
    if gateway {
        manager.xff_num_trusted_hops = settings.trusted_proxies;
        manager.append_x_forwarded_port = settings.forwarded_port;
    } else if options.protocol.is_http2() {
        manager.http2_protocol_options = Some(core::Http2ProtocolOptions::default());
    }
    manager
}

/// Filters in the order that policies rely on (control-plane.md §2.4.2).
fn http_filters(
    common: &Common,
    traffic: Traffic,
    protocol: Protocol,
    sniffed: bool,
    resolver: Option<HttpFilter>,
) -> Vec<HttpFilter> {
    let mut list = Vec::new();
    if common.class.flavour == Flavour::Contrib {
        list.push(crate::contrib::metadata_exchange(traffic, &common.class.settings));
    }
    if traffic != Traffic::Outbound {
        list.extend(common.authz.http.iter().cloned());
    }
    if protocol == Protocol::GrpcWeb {
        list.push(filters::grpc_web());
    }
    list.push(filters::grpc_stats());
    if traffic != Traffic::Inbound {
        match common.class.flavour {
            Flavour::Contrib => list.push(crate::contrib::alpn()),
            Flavour::Stock if sniffed || traffic == Traffic::Gateway => {
                list.push(crate::contrib::alpn_substitute(traffic))
            }
            Flavour::Stock => {}
        }
    }
    list.push(filters::fault());
    list.push(filters::cors());
    list.extend(resolver);
    list.push(filters::router(common.class.settings.no_debug_headers));
    list
}
