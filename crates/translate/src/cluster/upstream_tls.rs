//! TLS from a cluster to its endpoints: a DestinationRule's, or mutual TLS wherever the endpoint has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::mesh_config::MeshConfig;
use api::networking::destination_rule::{ClientTls, ProxyProtocol};
use xds::envoy::config::cluster::v3::{Cluster, Filter, cluster};
use xds::envoy::config::core::v3 as core;
use xds::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use xds::envoy::extensions::transport_sockets::tls::v3 as tls_v3;
use xds::google::protobuf::Struct;

use super::draft::Draft;
use crate::graph::Cx;
use crate::proto;
use crate::proxy::Flavour;
use crate::tls;

/// What is known about the destination.
pub(super) struct Destination<'a> {
    pub(super) sni: String,
    /// Identities of its endpoints.
    pub(super) identities: &'a Arc<[String]>,
    /// Names that a ServiceEntry gives.
    pub(super) entry_names: &'a [String],
    /// Whether mutual TLS may be chosen without a rule.
    pub(super) automatic: bool,
}

/// Who the client is.
pub(super) struct Origin {
    pub(super) flavour: Flavour,
    pub(super) is_sidecar: bool,
    pub(super) selected_by_rule: bool,
}

pub(super) fn apply(
    cx: &mut Cx<'_>,
    draft: &mut Draft,
    mesh: &MeshConfig,
    origin: &Origin,
    rule: Option<&ClientTls>,
    to: &Destination<'_>,
) {
    let http2 = draft.http2().is_some();
    match rule {
        None if !to.automatic => {}
        None => {
            let mutual = tls::Mutual {
                flavour: origin.flavour,
                http2,
                names: to.identities.clone(),
            };
            let socket = tls::mesh_socket(cx, mutual, &to.sni);
            if draft.is_original_dst() {
                draft.cluster.transport_socket = Some(socket);
            } else {
                draft.cluster.transport_socket_matches = vec![
                    cluster::TransportSocketMatch {
                        name: "tlsMode-istio".to_owned(),
                        r#match: Some(proto::fields_of([("tlsMode", proto::text("istio"))])),
                        transport_socket: Some(socket),
                    },
                    cluster::TransportSocketMatch {
                        name: "tlsMode-disabled".to_owned(),
                        r#match: Some(Struct::default()),
                        transport_socket: Some(tls::plain_socket()),
                    },
                ];
            }
        }
        Some(rule) => match rule.mode.as_str() {
            "ISTIO_MUTUAL" => {
                let sni = if rule.sni.is_empty() { &to.sni } else { &rule.sni };
                let names = if rule.subject_alt_names.is_empty() {
                    to.identities.clone()
                } else {
                    rule.subject_alt_names.as_slice().into()
                };
                let mutual = tls::Mutual {
                    flavour: origin.flavour,
                    http2,
                    names,
                };
                draft.cluster.transport_socket = Some(tls::mesh_socket(cx, mutual, sni));
            }
            "SIMPLE" | "MUTUAL" => {
                // A secret that every client of the rule would need is not handed out to sidecars.
                let withheld = !rule.credential_name.is_empty()
                    && !rule.credential_name.starts_with("configmap://")
                    && origin.is_sidecar
                    && !origin.selected_by_rule;
                if !withheld {
                    apply_own(draft, mesh, rule, to, http2);
                }
            }
            _ => {}
        },
    }
}

/// TLS to a server outside the mesh.
fn apply_own(draft: &mut Draft, mesh: &MeshConfig, rule: &ClientTls, to: &Destination<'_>, http2: bool) {
    let skip_verify = rule.insecure_skip_verify.unwrap_or_default();
    let auto_sni = rule.sni.is_empty();
    let auto_names = auto_sni && rule.subject_alt_names.is_empty() && !skip_verify;
    if auto_sni || auto_names {
        let upstream = draft.http().upstream_http_protocol_options.get_or_insert_default();
        upstream.auto_sni |= auto_sni;
        upstream.auto_san_validation |= auto_names;
    }
    let names = if rule.subject_alt_names.is_empty() {
        to.entry_names
    } else {
        rule.subject_alt_names.as_slice()
    };
    let mutual = rule.mode == "MUTUAL";
    let mut common = tls_v3::CommonTlsContext {
        tls_params: Some(tls::parameters()),
        ..Default::default()
    };
    let matchers = || names.iter().map(|n| tls::exact(n)).collect();
    let nothing = || {
        tls_v3::common_tls_context::ValidationContextType::ValidationContext(
            tls_v3::CertificateValidationContext::default(),
        )
    };
    if rule.credential_name.is_empty() {
        let ca = if rule.ca_certificates.is_empty() {
            "system"
        } else {
            &rule.ca_certificates
        };
        if mutual {
            if rule.client_certificate.is_empty() || rule.private_key.is_empty() {
                return;
            }
            common.tls_certificate_sds_secret_configs = vec![tls::agent_secret(&format!(
                "file-cert:{}~{}",
                rule.client_certificate, rule.private_key
            ))];
        }
        common.validation_context_type = Some(if skip_verify {
            nothing()
        } else {
            let mut validation = tls::validation(matchers(), tls::agent_secret(&format!("file-root:{ca}")));
            if let (false, tls_v3::common_tls_context::ValidationContextType::CombinedValidationContext(combined)) =
                (rule.ca_crl.is_empty(), &mut validation)
            {
                combined.default_validation_context.get_or_insert_default().crl = Some(core::DataSource {
                    specifier: Some(core::data_source::Specifier::Filename(rule.ca_crl.clone())),
                    ..Default::default()
                });
            }
            validation
        });
    } else {
        let name = crate::secret::resource_name(&rule.credential_name);
        if mutual {
            common.tls_certificate_sds_secret_configs = vec![tls::control_plane_secret(&name)];
        }
        common.validation_context_type = Some(if skip_verify {
            nothing()
        } else {
            let roots = if rule.credential_name.contains("://") && rule.credential_name.starts_with("configmap") {
                name
            } else {
                format!("{name}-cacert")
            };
            tls::validation(matchers(), tls::control_plane_secret(&roots))
        });
    }
    if let (Some(defaults), Some(parameters)) = (&mesh.tls_defaults, &mut common.tls_params) {
        parameters.ecdh_curves.clone_from(&defaults.ecdh_curves);
        parameters.cipher_suites.clone_from(&defaults.cipher_suites);
    }
    if http2 {
        common.alpn_protocols = vec!["h2".to_owned()];
    }
    let context = tls_v3::UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: rule.sni.clone(),
        ..Default::default()
    };
    draft.cluster.transport_socket = Some(tls::upstream_socket(&context));
}

/// The client's half of the exchange of metadata over TCP.
pub(super) fn add_metadata_exchange(cluster: &mut Cluster, flavour: Flavour) {
    if flavour == Flavour::Contrib {
        cluster.filters.push(Filter {
            name: "istio.metadata_exchange".to_owned(),
            typed_config: Some(metadata_exchange()),
            ..Default::default()
        });
    }
}

/// Settings of the exchange of metadata over TCP.
pub(crate) fn metadata_exchange() -> xds::google::protobuf::Any {
    proto::any(&xds::udpa::r#type::v1::TypedStruct {
        type_url: "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange".to_owned(),
        value: Some(Struct {
            fields: BTreeMap::from([
                ("protocol".to_owned(), proto::text("istio-peer-exchange")),
                (
                    "enable_discovery".to_owned(),
                    proto::value_of_json(&serde_json::Value::Bool(true)),
                ),
            ]),
        }),
    })
}

/// Puts the PROXY protocol in front of every transport of a cluster.
pub(super) fn add_proxy_protocol(cluster: &mut Cluster, setting: &ProxyProtocol) {
    let version = if setting.version == "V2" {
        core::proxy_protocol_config::Version::V2
    } else {
        core::proxy_protocol_config::Version::V1
    };
    let wrap = |inner: core::TransportSocket| core::TransportSocket {
        name: "envoy.transport_sockets.upstream_proxy_protocol".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(proto::any(
            &ProxyProtocolUpstreamTransport {
                config: Some(core::ProxyProtocolConfig {
                    version: version as i32,
                    ..Default::default()
                }),
                transport_socket: Some(inner),
                ..Default::default()
            },
        ))),
    };
    for matched in &mut cluster.transport_socket_matches {
        matched.transport_socket = matched.transport_socket.take().map(wrap);
    }
    cluster.transport_socket = match cluster.transport_socket.take() {
        Some(socket) => Some(wrap(socket)),
        None if cluster.transport_socket_matches.is_empty() => Some(wrap(core::TransportSocket {
            name: "raw_buffer".to_owned(),
            ..tls::plain_socket()
        })),
        None => None,
    };
}
