//! TLS of a gateway's server: certificates from secrets, from files, or the mesh's own.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::networking::gateway::ServerTls;
use xds::envoy::config::core::v3 as core;
use xds::envoy::extensions::transport_sockets::tls::v3 as tls_v3;

use super::{ClassId, Served};
use crate::graph::Cx;
use crate::listener::Common;
use crate::listener::chain::Socket;
use crate::proto;
use crate::secret;
use crate::tls;

type Validation = tls_v3::common_tls_context::ValidationContextType;

/// Whose TLS, and for what.
#[derive(Debug)]
pub(crate) struct Question {
    class: ClassId,
    served: Arc<Served>,
    http: bool,
}

/// Mode of a server whose certificate and roots are the mesh's.
const ISTIO: &str = "ISTIO_MUTUAL";

/// What of a server's settings is read.
#[derive(PartialEq)]
enum Read<'a> {
    Nothing,
    /// With the mesh's certificates, names that clients may have.
    Names(&'a [String]),
    Everything(&'a ServerTls),
}

impl Question {
    /// Servers of which nothing else than this is read are alike. Most gateways have many of one sort.
    fn of(&self) -> (ClassId, bool, Read<'_>) {
        let read = match &self.served.server().tls {
            None => Read::Nothing,
            Some(tls) if self.served.mode() == ISTIO => Read::Names(&tls.subject_alt_names),
            Some(tls) => Read::Everything(tls),
        };
        (self.class, self.http, read)
    }
}

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        self.of() == other.of()
    }
}

impl Eq for Question {}

impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (class, http, read) = self.of();
        (class, http).hash(state);
        match read {
            Read::Nothing => {}
            Read::Names(names) => names.hash(state),
            Read::Everything(tls) => (&tls.mode, &tls.credential_name, &tls.server_certificate).hash(state),
        }
    }
}

/// How TLS ends at a server; servers that say the same share it.
pub(super) fn socket(cx: &mut Cx<'_>, common: &Common, served: &Arc<Served>, http: bool) -> Option<Arc<Socket>> {
    served.server().tls.as_ref()?;
    cx.socket(Question {
        class: common.id,
        served: served.clone(),
        http,
    })
}

/// The answer to [`crate::query::Query::Socket`].
pub(crate) fn answer(cx: &mut Cx<'_>, question: &Question) -> Option<Arc<Socket>> {
    let common = cx.common(question.class)?;
    let context = context(&common, &question.served, question.http)?;
    Some(Arc::new(Socket::new(&context)))
}

/// The context; none where TLS is not terminated.
fn context(common: &Common, served: &Served, http: bool) -> Option<tls_v3::DownstreamTlsContext> {
    let settings = served.server().tls.as_ref()?;
    if served.is_passthrough() {
        return None;
    }
    let mode = served.mode();
    let istio = mode == ISTIO;
    let requires = matches!(mode, "MUTUAL" | ISTIO);
    let validates = requires || mode == "OPTIONAL_MUTUAL";
    let mut shared = tls_v3::CommonTlsContext {
        alpn_protocols: tls::server_alpn(common.class.flavour, http || !istio),
        ..Default::default()
    };
    let names = || {
        settings
            .subject_alt_names
            .iter()
            .map(|n| tls::exact(n))
            .collect::<Vec<_>>()
    };
    let credentials = secret::credentials(settings);
    if istio {
        shared.tls_certificate_sds_secret_configs = vec![tls::agent_secret(tls::WORKLOAD_SECRET)];
        shared.validation_context_type = Some(tls::validation(names(), tls::agent_secret(tls::ROOT_SECRET)));
    } else if let Some(first) = credentials.first() {
        shared.tls_certificate_sds_secret_configs = credentials
            .iter()
            .map(|c| tls::control_plane_secret(&secret::resource_name(c)))
            .collect();
        if validates {
            let roots = if settings.ca_cert_credential_name.is_empty() {
                format!("{}-cacert", secret::resource_name(first))
            } else {
                secret::resource_name(&settings.ca_cert_credential_name)
            };
            let mut validation = tls::validation(names(), tls::control_plane_secret(&roots));
            if let Validation::CombinedValidationContext(combined) = &mut validation {
                let own = combined.default_validation_context.get_or_insert_default();
                own.verify_certificate_spki
                    .clone_from(&settings.verify_certificate_spki);
                own.verify_certificate_hash
                    .clone_from(&settings.verify_certificate_hash);
            }
            shared.validation_context_type = Some(validation);
        } else if !settings.subject_alt_names.is_empty() {
            shared.validation_context_type =
                Some(Validation::ValidationContext(tls_v3::CertificateValidationContext {
                    match_subject_alt_names: names(),
                    ..Default::default()
                }));
        }
    } else {
        let mut files = vec![(settings.server_certificate.clone(), settings.private_key.clone())];
        if !settings.tls_certificates.is_empty() {
            files = settings
                .tls_certificates
                .iter()
                .map(|c| (c.server_certificate.clone(), c.private_key.clone()))
                .collect();
        }
        shared.tls_certificate_sds_secret_configs = files
            .iter()
            .map(|(certificate, key)| tls::agent_secret(&format!("file-cert:{certificate}~{key}")))
            .collect();
        if validates {
            let roots = tls::agent_secret(&format!("file-root:{}", settings.ca_certificates));
            let mut validation = tls::validation(names(), roots);
            if let (false, Validation::CombinedValidationContext(combined)) =
                (settings.ca_crl.is_empty(), &mut validation)
            {
                combined.default_validation_context.get_or_insert_default().crl = Some(core::DataSource {
                    specifier: Some(core::data_source::Specifier::Filename(settings.ca_crl.clone())),
                    ..Default::default()
                });
            }
            shared.validation_context_type = Some(validation);
        }
    }
    if !istio {
        shared.tls_params = parameters(common, settings);
    }
    Some(tls_v3::DownstreamTlsContext {
        common_tls_context: Some(shared),
        require_client_certificate: Some(proto::bool_value(requires)),
        ..Default::default()
    })
}

/// Versions, ciphers and curves: the server's over the mesh's; none if nobody sets any.
fn parameters(common: &Common, settings: &ServerTls) -> Option<tls_v3::TlsParameters> {
    let mut parameters = tls_v3::TlsParameters::default();
    if let Some(defaults) = &common.mesh.tls_defaults {
        parameters.ecdh_curves.clone_from(&defaults.ecdh_curves);
        parameters.cipher_suites.clone_from(&defaults.cipher_suites);
        if let Some(version) = &defaults.min_protocol_version {
            parameters.tls_minimum_protocol_version = version_of(version);
        }
    }
    if let Some(version) = settings
        .min_protocol_version
        .as_deref()
        .map(version_of)
        .filter(|v| *v != 0)
    {
        parameters.tls_minimum_protocol_version = version;
    }
    if let Some(version) = settings
        .max_protocol_version
        .as_deref()
        .map(version_of)
        .filter(|v| *v != 0)
    {
        parameters.tls_maximum_protocol_version = version;
    }
    if !settings.cipher_suites.is_empty() {
        parameters.cipher_suites.clone_from(&settings.cipher_suites);
    }
    (parameters != tls_v3::TlsParameters::default()).then_some(parameters)
}

fn version_of(name: &str) -> i32 {
    use tls_v3::tls_parameters::TlsProtocol;
    match name {
        "TLSV1_0" => TlsProtocol::TlSv10 as i32,
        "TLSV1_1" => TlsProtocol::TlSv11 as i32,
        "TLSV1_2" => TlsProtocol::TlSv12 as i32,
        "TLSV1_3" => TlsProtocol::TlSv13 as i32,
        _ => 0,
    }
}
