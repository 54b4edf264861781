//! TLS contexts inside the mesh: secrets come from the agent, identities are checked by name.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::{Message, Name};
use xds::envoy::config::core::v3 as core;
use xds::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use xds::envoy::extensions::transport_sockets::tls::v3 as tls;
use xds::envoy::r#type::matcher::v3 as matcher;
use xds::google::protobuf::Any;

use crate::graph::Cx;
use crate::proto;
use crate::proxy::Flavour;
use crate::query::Query;
use crate::wire;

/// Secret with the workload's certificate and key.
pub(crate) const WORKLOAD_SECRET: &str = "default";
/// Secret with the mesh's roots.
pub(crate) const ROOT_SECRET: &str = "ROOTCA";
/// Cluster of the agent's secret service.
pub(crate) const AGENT_SECRETS: &str = "sds-grpc";

/// Cipher suites that servers accept below TLS 1.3.
pub(crate) const CIPHERS: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// A secret that the agent delivers. The mesh's own are waited for; for others, traffic fails after a while.
pub(crate) fn agent_secret(name: &str) -> tls::SdsSecretConfig {
    let mut source = proto::grpc_source(AGENT_SECRETS);
    if name != WORKLOAD_SECRET && name != ROOT_SECRET {
        source.initial_fetch_timeout = None;
    }
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(source),
    }
}

/// A secret that the control plane delivers.
pub(crate) fn control_plane_secret(name: &str) -> tls::SdsSecretConfig {
    let source = core::ConfigSource {
        initial_fetch_timeout: None,
        ..proto::ads()
    };
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(source),
    }
}

/// TLS 1.2 and 1.3.
pub(crate) fn parameters() -> tls::TlsParameters {
    tls::TlsParameters {
        tls_minimum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv12 as i32,
        tls_maximum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13 as i32,
        ..Default::default()
    }
}

/// Matches a whole text.
pub(crate) fn exact(text: &str) -> matcher::StringMatcher {
    matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(text.to_owned())),
        ..Default::default()
    }
}

/// Matches the start of a text.
pub(crate) fn prefix(text: &str) -> matcher::StringMatcher {
    matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Prefix(text.to_owned())),
        ..Default::default()
    }
}

/// Roots from a secret, names as given.
pub(crate) fn validation(
    names: Vec<matcher::StringMatcher>,
    roots: tls::SdsSecretConfig,
) -> tls::common_tls_context::ValidationContextType {
    tls::common_tls_context::ValidationContextType::CombinedValidationContext(
        tls::common_tls_context::CombinedCertificateValidationContext {
            default_validation_context: Some(tls::CertificateValidationContext {
                match_subject_alt_names: names,
                ..Default::default()
            }),
            validation_context_sds_secret_config: Some(roots),
            ..Default::default()
        },
    )
}

/// A TLS transport socket towards upstream.
pub(crate) fn upstream_socket(context: &tls::UpstreamTlsContext) -> core::TransportSocket {
    socket("envoy.transport_sockets.tls", proto::any(context))
}

/// What mutual TLS inside the mesh hangs on, beside the server's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mutual {
    pub(crate) flavour: Flavour,
    pub(crate) http2: bool,
    /// Names that the server's certificate may have.
    pub(crate) names: Arc<[String]>,
}

/// A transport socket of mutual TLS inside the mesh. Most of it is the same for many clusters; that is encoded once.
pub(crate) fn mesh_socket(cx: &mut Cx<'_>, mutual: Mutual, sni: &str) -> core::TransportSocket {
    const SNI: u32 = 2;
    let common = cx.bytes(&Query::MutualTls(mutual));
    let mut value = BytesMut::with_capacity(common.len() + sni.len() + 8);
    value.extend_from_slice(&common);
    if !sni.is_empty() {
        wire::put(SNI, sni.as_bytes(), &mut value);
    }
    let context = Any {
        type_url: tls::UpstreamTlsContext::type_url(),
        value: value.freeze(),
    };
    socket("envoy.transport_sockets.tls", context)
}

/// A TLS transport socket towards downstream.
pub(crate) fn downstream_socket(context: &tls::DownstreamTlsContext) -> core::TransportSocket {
    socket("envoy.transport_sockets.tls", proto::any(context))
}

/// No TLS.
pub(crate) fn plain_socket() -> core::TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", proto::any(&RawBuffer {}))
}

fn socket(name: &str, config: xds::google::protobuf::Any) -> core::TransportSocket {
    core::TransportSocket {
        name: name.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(config)),
    }
}

/// ALPN that a client offers inside the mesh. Only a proxy that exchanges metadata may offer it.
pub(crate) fn client_alpn(flavour: Flavour, http2: bool) -> Vec<String> {
    let mut names = Vec::new();
    if flavour == Flavour::Contrib {
        names.push("istio-peer-exchange");
    }
    names.push("istio");
    if http2 {
        names.push("h2");
    }
    names.into_iter().map(str::to_owned).collect()
}

/// ALPN that a server accepts inside the mesh.
pub(crate) fn server_alpn(flavour: Flavour, http: bool) -> Vec<String> {
    let mut names = Vec::new();
    if flavour == Flavour::Contrib && !http {
        names.push("istio-peer-exchange");
    }
    names.extend(["h2", "http/1.1"]);
    names.into_iter().map(str::to_owned).collect()
}

/// The answer to [`Query::MutualTls`]: the client's context without the server's name, with the workload's certificate
/// and the mesh's roots.
pub(crate) fn mesh_client(mutual: &Mutual) -> Bytes {
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: Some(parameters()),
            tls_certificate_sds_secret_configs: vec![agent_secret(WORKLOAD_SECRET)],
            validation_context_type: Some(validation(
                mutual.names.iter().map(|n| exact(n)).collect(),
                agent_secret(ROOT_SECRET),
            )),
            alpn_protocols: client_alpn(mutual.flavour, mutual.http2),
            ..Default::default()
        }),
        ..Default::default()
    };
    context.encode_to_vec().into()
}
