//! The listener that redirection sends outbound traffic to, and the optional HTTP proxy.

use mesh::Protocol;
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener};

use super::hcm::{self, Http1, Routes};
use super::{Common, Traffic, tcp};
use crate::graph::Cx;
use crate::proxy::Interception;
use crate::{naming, proto, scope};

/// Where traffic goes whose destination is unknown.
pub(super) fn unknown_destination(common: &Common) -> Filter {
    let cluster = scope::cluster_of_unknown(&common.unknown);
    tcp::plain(
        common,
        Traffic::Outbound,
        cluster.as_deref().unwrap_or(naming::BLACK_HOLE),
    )
}

pub(super) fn listener(common: &Common) -> Option<Listener> {
    if common.class.interception == Interception::None {
        return None;
    }
    let port = u16::try_from(common.mesh.proxy_listen_port.0).ok()?;
    let loop_guard = FilterChain {
        name: "virtualOutbound-blackhole".to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(proto::u32_value(u32::from(port))),
            ..Default::default()
        }),
        filters: vec![tcp::filter(
            &xds::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy {
                stat_prefix: naming::BLACK_HOLE.to_owned(),
                cluster_specifier: Some(
                    xds::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier::Cluster(
                        naming::BLACK_HOLE.to_owned(),
                    ),
                ),
                ..Default::default()
            },
        )],
        ..Default::default()
    };
    let rest = FilterChain {
        name: "virtualOutbound-catchall-tcp".to_owned(),
        filters: vec![unknown_destination(common)],
        ..Default::default()
    };
    Some(Listener {
        name: "virtualOutbound".to_owned(),
        address: Some(proto::socket_address(common.class.wildcard(), port)),
        use_original_dst: Some(proto::bool_value(true)),
        transparent: (common.class.interception == Interception::Tproxy).then(|| proto::bool_value(true)),
        filter_chains: vec![loop_guard, rest],
        traffic_direction: core::TrafficDirection::Outbound as i32,
        access_log: common.telemetry.listener_logs(Traffic::Outbound),
        max_connections_to_accept_per_socket_event: Some(proto::u32_value(1)),
        ..Default::default()
    })
}

/// A listener for clients that know a proxy.
pub(super) fn http_proxy(cx: &mut Cx<'_>, common: &Common) -> Option<Listener> {
    let port = u16::try_from(common.mesh.proxy_http_port.0).ok().filter(|p| *p != 0)?;
    let name = format!("{}_{port}", common.class.localhost());
    let options = hcm::Options {
        sort: hcm::Sort {
            traffic: Traffic::Outbound,
            protocol: Protocol::HttpProxy,
            sniffed: false,
            http1: Http1::AbsoluteUrls,
        },
        stat_prefix: format!("outbound_{name};"),
        routes: Routes::Named("http_proxy".to_owned()),
        resolver: None,
    };
    Some(Listener {
        address: Some(proto::socket_address(common.class.localhost(), port)),
        name,
        traffic_direction: core::TrafficDirection::Outbound as i32,
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: Some(proto::seconds(0)),
        max_connections_to_accept_per_socket_event: Some(proto::u32_value(1)),
        filter_chains: vec![FilterChain {
            filters: vec![hcm::filter(cx, common, options)],
            transport_socket_connect_timeout: Some(proto::seconds(15)),
            ..Default::default()
        }],
        ..Default::default()
    })
}
