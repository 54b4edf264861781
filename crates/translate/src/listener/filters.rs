//! Filters without settings of their own.

use xds::envoy::config::listener::v3::{Filter, ListenerFilter, filter, listener_filter};
use xds::envoy::extensions::filters::http::{cors, fault, grpc_stats, grpc_web, router};
use xds::envoy::extensions::filters::listener as listener_filters;
use xds::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use xds::google::protobuf::Any;

use crate::proto;

/// A network filter.
pub(crate) fn network(name: &str, config: Any) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(config)),
    }
}

/// An HTTP filter.
pub(crate) fn http(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

fn listener(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

pub(super) fn grpc_stats() -> HttpFilter {
    http(
        "envoy.filters.http.grpc_stats",
        proto::any(&grpc_stats::v3::FilterConfig {
            emit_filter_state: true,
            per_method_stat_specifier: Some(
                grpc_stats::v3::filter_config::PerMethodStatSpecifier::StatsForAllMethods(proto::bool_value(false)),
            ),
            ..Default::default()
        }),
    )
}

pub(super) fn grpc_web() -> HttpFilter {
    http("envoy.filters.http.grpc_web", proto::any(&grpc_web::v3::GrpcWeb {}))
}

pub(super) fn fault() -> HttpFilter {
    http("envoy.filters.http.fault", proto::any(&fault::v3::HttpFault::default()))
}

pub(super) fn cors() -> HttpFilter {
    http("envoy.filters.http.cors", proto::any(&cors::v3::Cors {}))
}

/// The last filter; it may keep headers about upstreams to itself.
pub(super) fn router(silent: bool) -> HttpFilter {
    let message = router::v3::Router {
        suppress_envoy_headers: silent,
        ..Default::default()
    };
    http("envoy.filters.http.router", proto::any(&message))
}

/// The address of clients behind a proxy of connections.
pub(super) fn proxy_protocol() -> ListenerFilter {
    listener(
        "envoy.filters.listener.proxy_protocol",
        proto::any(&listener_filters::proxy_protocol::v3::ProxyProtocol::default()),
    )
}

pub(super) fn original_dst() -> ListenerFilter {
    listener(
        "envoy.filters.listener.original_dst",
        proto::any(&listener_filters::original_dst::v3::OriginalDst {}),
    )
}

/// Keeps the client's address; 1337 is the mark that redirection knows the proxy's connections by.
pub(super) fn original_src() -> ListenerFilter {
    listener(
        "envoy.filters.listener.original_src",
        proto::any(&listener_filters::original_src::v3::OriginalSrc {
            mark: 1337,
            ..Default::default()
        }),
    )
}

pub(super) fn tls_inspector() -> ListenerFilter {
    listener(
        "envoy.filters.listener.tls_inspector",
        proto::any(&listener_filters::tls_inspector::v3::TlsInspector {
            initial_read_buffer_size: Some(proto::u32_value(512)),
            ..Default::default()
        }),
    )
}

pub(super) fn http_inspector() -> ListenerFilter {
    listener(
        "envoy.filters.listener.http_inspector",
        proto::any(&listener_filters::http_inspector::v3::HttpInspector {}),
    )
}
