//! A cluster in the making: its message, and HTTP options that become part of it at the end.

use std::sync::Arc;

use api::lenient::Duration;
use xds::envoy::config::cluster::v3::{Cluster, cluster};
use xds::envoy::config::core::v3 as core;
use xds::envoy::extensions::upstreams::http::v3::{HttpProtocolOptions, http_protocol_options as options};
use xds::resource::Resource;

use crate::{proto, wire};

/// Key under which a cluster carries its HTTP options.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Number of the field `metadata` of a cluster.
const METADATA: u32 = 25;

pub(super) struct Draft {
    /// Without its metadata.
    pub(super) cluster: Cluster,
    /// Encoded.
    pub(super) metadata: Option<Vec<u8>>,
    pub(super) http: Option<HttpProtocolOptions>,
    preserve_case: bool,
}

impl Draft {
    pub(super) fn new(name: String, discovery: cluster::DiscoveryType, connect_timeout: Duration) -> Self {
        Self {
            cluster: Cluster {
                alt_stat_name: format!("{name};"),
                name,
                connect_timeout: Some(proto::duration(connect_timeout)),
                cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(discovery as i32)),
                ..Cluster::default()
            },
            metadata: None,
            http: None,
            preserve_case: false,
        }
    }

    pub(super) fn discovery(&self) -> Option<cluster::DiscoveryType> {
        match self.cluster.cluster_discovery_type {
            Some(cluster::ClusterDiscoveryType::Type(t)) => cluster::DiscoveryType::try_from(t).ok(),
            _ => None,
        }
    }

    pub(super) fn is_original_dst(&self) -> bool {
        self.discovery() == Some(cluster::DiscoveryType::OriginalDst)
    }

    pub(super) fn http(&mut self) -> &mut HttpProtocolOptions {
        self.http.get_or_insert_default()
    }

    /// HTTP/1 headers keep their case.
    pub(super) fn preserve_case(&mut self) {
        self.preserve_case = true;
        self.http();
    }

    /// Speaks HTTP/2, unless a protocol is set already.
    pub(super) fn set_http2(&mut self) {
        let http = self.http();
        if http.upstream_protocol_options.is_none() {
            http.upstream_protocol_options = Some(options::UpstreamProtocolOptions::ExplicitHttpConfig(
                options::ExplicitHttpConfig {
                    protocol_config: Some(options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(
                        core::Http2ProtocolOptions::default(),
                    )),
                },
            ));
        }
    }

    /// Speaks what the client speaks.
    pub(super) fn set_downstream_protocol(&mut self) {
        self.http().upstream_protocol_options = Some(downstream_protocol());
    }

    /// The explicit HTTP/2 options, if it speaks HTTP/2.
    pub(super) fn http2(&mut self) -> Option<&mut core::Http2ProtocolOptions> {
        match self.http.as_mut()?.upstream_protocol_options.as_mut()? {
            options::UpstreamProtocolOptions::ExplicitHttpConfig(options::ExplicitHttpConfig {
                protocol_config: Some(options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(http2)),
            }) => Some(http2),
            _ => None,
        }
    }

    /// The cluster as it is sent.
    pub(super) fn finish(mut self) -> Arc<Resource> {
        if let Some(mut http) = self.http {
            // The choice of a protocol is required: without one, HTTP/1.1.
            http.upstream_protocol_options.get_or_insert_with(|| {
                options::UpstreamProtocolOptions::ExplicitHttpConfig(options::ExplicitHttpConfig {
                    protocol_config: Some(options::explicit_http_config::ProtocolConfig::HttpProtocolOptions(
                        core::Http1ProtocolOptions::default(),
                    )),
                })
            });
            if self.preserve_case
                && let Some(options) = http.upstream_protocol_options.as_mut().and_then(http1)
            {
                options.header_key_format = Some(crate::settings::preserve_case());
            }
            self.cluster
                .typed_extension_protocol_options
                .insert(HTTP_OPTIONS.to_owned(), proto::any(&http));
        }
        let message = wire::encode_with(&self.cluster, [(METADATA, self.metadata.as_deref())]);
        Arc::new(Resource::of_message::<Cluster>(self.cluster.name, &message))
    }
}

/// The options of HTTP/1, if it is spoken.
fn http1(protocol: &mut options::UpstreamProtocolOptions) -> Option<&mut core::Http1ProtocolOptions> {
    match protocol {
        options::UpstreamProtocolOptions::ExplicitHttpConfig(options::ExplicitHttpConfig {
            protocol_config: Some(options::explicit_http_config::ProtocolConfig::HttpProtocolOptions(http1)),
        }) => Some(http1),
        options::UpstreamProtocolOptions::UseDownstreamProtocolConfig(config) => config.http_protocol_options.as_mut(),
        _ => None,
    }
}

pub(super) fn downstream_protocol() -> options::UpstreamProtocolOptions {
    options::UpstreamProtocolOptions::UseDownstreamProtocolConfig(options::UseDownstreamHttpConfig {
        http_protocol_options: Some(core::Http1ProtocolOptions::default()),
        http2_protocol_options: Some(core::Http2ProtocolOptions::default()),
        ..Default::default()
    })
}
