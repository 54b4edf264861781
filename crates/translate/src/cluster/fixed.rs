//! Clusters that every proxy has: nowhere, and wherever the client meant.

use std::sync::Arc;

use api::lenient::Duration;
use api::mesh_config::MeshConfig;
use xds::envoy::config::cluster::v3::cluster;
use xds::envoy::config::core::v3 as core;
use xds::resource::Resource;

use super::draft::{Draft, downstream_protocol};
use super::policy;
use crate::naming;
use crate::proto;
use crate::proxy::ProxyClass;

pub(super) fn black_hole(mesh: &MeshConfig) -> Arc<Resource> {
    Draft::new(
        naming::BLACK_HOLE.to_owned(),
        cluster::DiscoveryType::Static,
        mesh.connect_timeout,
    )
    .finish()
}

pub(super) fn passthrough(mesh: &MeshConfig, class: &ProxyClass) -> Arc<Resource> {
    let mut draft = original_destination(mesh, class, naming::PASSTHROUGH);
    super::upstream_tls::add_metadata_exchange(&mut draft.cluster, class.flavour);
    draft.finish()
}

pub(super) fn inbound_passthrough(mesh: &MeshConfig, class: &ProxyClass) -> Arc<Resource> {
    let mut draft = original_destination(mesh, class, naming::INBOUND_PASSTHROUGH);
    let mut bind = source(class);
    if class.ipv4 && class.ipv6 {
        bind.extra_source_addresses = vec![core::ExtraSourceAddress {
            address: Some(socket("::6")),
            ..Default::default()
        }];
    }
    draft.cluster.upstream_bind_config = Some(bind);
    draft.finish()
}

/// Traffic from the proxy to its workload comes from an address that redirection leaves alone.
pub(super) fn source(class: &ProxyClass) -> core::BindConfig {
    core::BindConfig {
        source_address: Some(socket(class.passthrough_source())),
        ..Default::default()
    }
}

fn socket(address: &str) -> core::SocketAddress {
    core::SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(0)),
        ..Default::default()
    }
}

fn original_destination(mesh: &MeshConfig, class: &ProxyClass, name: &str) -> Draft {
    let mut draft = Draft::new(
        name.to_owned(),
        cluster::DiscoveryType::OriginalDst,
        mesh.connect_timeout,
    );
    draft.cluster.alt_stat_name = format!("{};", naming::PASSTHROUGH);
    draft.cluster.lb_policy = cluster::LbPolicy::ClusterProvided as i32;
    if class.settings.preserve_case {
        draft.preserve_case();
    }
    let http = draft.http();
    http.upstream_protocol_options = Some(downstream_protocol());
    http.common_http_protocol_options = Some(core::HttpProtocolOptions {
        idle_timeout: Some(proto::duration(Duration::seconds(300))),
        ..Default::default()
    });
    let pool = mesh
        .default_traffic_policy
        .as_ref()
        .and_then(|p| p.connection_pool.clone())
        .unwrap_or_default();
    policy::apply_connection_pool(&mut draft, mesh, &pool, None);
    draft
}
