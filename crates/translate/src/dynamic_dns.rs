//! ServiceEntries whose names are resolved when a request arrives (resolution DYNAMIC_DNS, wildcard hosts): the proxy
//! resolves the name that the client asks for.

use mesh::{Resolution, Service};
use prost::Message;
use xds::envoy::config::cluster::v3::{self as cluster_v3, cluster};
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::listener::v3::Filter;
use xds::envoy::extensions::clusters::dynamic_forward_proxy::v3::{ClusterConfig, cluster_config};
use xds::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use xds::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3 as sni_filter;

use crate::listener::filters;
use crate::{host, proto};

/// Whether the proxy resolves the service's names.
pub(crate) fn is_resolved_by_proxy(service: &Service) -> bool {
    service.resolution == Resolution::DynamicDns && host::is_wildcard(&service.key.host)
}

/// Which addresses of a name a proxy with addresses of these families uses.
pub(crate) fn family(ipv4: bool, ipv6: bool) -> cluster::DnsLookupFamily {
    match (ipv4, ipv6) {
        (true, true) => cluster::DnsLookupFamily::All,
        (false, true) => cluster::DnsLookupFamily::V6Only,
        _ => cluster::DnsLookupFamily::V4Only,
    }
}

/// Filters and cluster of a service share what was resolved.
fn cache(service: &Service, family: cluster::DnsLookupFamily) -> DnsCacheConfig {
    DnsCacheConfig {
        name: format!("{}_dfp_dns_cache", service.key.host),
        dns_lookup_family: family as i32,
        ..Default::default()
    }
}

pub(crate) fn cluster_type(service: &Service, family: cluster::DnsLookupFamily) -> cluster::ClusterDiscoveryType {
    let config = ClusterConfig {
        cluster_implementation_specifier: Some(cluster_config::ClusterImplementationSpecifier::DnsCacheConfig(cache(
            service, family,
        ))),
        ..Default::default()
    };
    cluster::ClusterDiscoveryType::ClusterType(cluster_v3::cluster::CustomClusterType {
        name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
        typed_config: Some(proto::any(&config)),
    })
}

/// Certificates are checked against the name that was asked for.
pub(crate) fn checks() -> core::UpstreamHttpProtocolOptions {
    core::UpstreamHttpProtocolOptions {
        auto_sni: true,
        auto_san_validation: true,
        ..Default::default()
    }
}

/// Settings of the filter for requests; the generated types do not have it.
#[derive(Clone, PartialEq, Message)]
struct RequestConfig {
    #[prost(message, optional, tag = "1")]
    dns_cache_config: Option<DnsCacheConfig>,
}

/// Resolves the name that a request is for.
pub(crate) fn of_request(service: &Service, family: cluster::DnsLookupFamily) -> HttpFilter {
    let config = RequestConfig {
        dns_cache_config: Some(cache(service, family)),
    };
    let any = proto::any_of(
        "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
        config.encode_to_vec(),
    );
    filters::http("envoy.filters.http.dynamic_forward_proxy", any)
}

/// Resolves the server name of a connection.
pub(crate) fn of_server_name(service: &Service, port: u16, family: cluster::DnsLookupFamily) -> Filter {
    let config = sni_filter::FilterConfig {
        dns_cache_config: Some(cache(service, family)),
        port_specifier: Some(sni_filter::filter_config::PortSpecifier::PortValue(u32::from(port))),
        ..Default::default()
    };
    filters::network(
        "envoy.extensions.filters.network.sni_dynamic_forward_proxy",
        proto::any(&config),
    )
}
