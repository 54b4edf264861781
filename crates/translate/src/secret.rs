//! Certificates and keys of gateways (SDS): only what the proxy's verified identity may read.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::networking::DestinationRule;
use api::networking::gateway::ServerTls;
use mesh::{Secret, SecretReader};
use xds::envoy::config::core::v3 as core;
use xds::envoy::extensions::transport_sockets::tls::v3 as tls_v3;
use xds::resource::{Resource, ResourceSet};

use crate::graph::{ClassId, Cx};
use crate::proxy::{ProxyClass, Role};
use crate::query::Query;

/// Suffix of the name under which the authorities of a credential are asked for.
const ROOTS: &str = "-cacert";

/// Name under which a proxy asks for a credential.
pub(crate) fn resource_name(credential: &str) -> String {
    if credential.contains("://") {
        credential.to_owned()
    } else {
        format!("kubernetes://{credential}")
    }
}

/// Credentials of a server's certificates.
pub(crate) fn credentials(settings: &ServerTls) -> Vec<String> {
    if settings.credential_names.is_empty() {
        Some(&settings.credential_name)
            .filter(|n| !n.is_empty())
            .into_iter()
            .cloned()
            .collect()
    } else {
        settings.credential_names.clone()
    }
}

pub(crate) fn of_class(cx: &mut Cx<'_>, class: &ProxyClass, id: ClassId) -> Arc<ResourceSet> {
    let Some(reader) = &class.secrets else {
        return Arc::default();
    };
    let mut names = BTreeSet::new();
    if class.role == Role::Router {
        for served in cx.servers(id).groups.iter().flat_map(|g| &g.servers) {
            let Some(settings) = &served.server().tls else { continue };
            let own = credentials(settings);
            if matches!(served.mode(), "MUTUAL" | "OPTIONAL_MUTUAL") {
                names.extend(own.first().map(|c| format!("{}{ROOTS}", resource_name(c))));
                if !settings.ca_cert_credential_name.is_empty() {
                    names.insert(resource_name(&settings.ca_cert_credential_name));
                }
            }
            names.extend(own.iter().map(|c| resource_name(c)));
        }
    }
    names.extend(rule_credentials(cx, class));
    let of_name = |name: String| cx.resource(&Query::Credential(reader.clone(), name.into()));
    Arc::new(ResourceSet::new(names.into_iter().filter_map(of_name)))
}

/// The answer to [`Query::Credential`].
pub(crate) fn credential(cx: &mut Cx<'_>, reader: &SecretReader, name: &str) -> Option<Arc<Resource>> {
    let (namespace, secret) = parse(name, reader.namespace())?;
    if namespace != reader.namespace() {
        return None;
    }
    let base = secret.strip_suffix(ROOTS);
    let mut read = |secret: &str| cx.secret(reader, &namespace, secret).cloned();
    // A secret may itself be called `…-cacert`; else the authorities are part of the other one.
    let message = match (read(&secret), base) {
        (Some(found), None) => certificate(name, &found),
        (Some(found), Some(_)) => roots(name, &found),
        (None, Some(base)) => read(base).and_then(|found| roots(name, &found)),
        (None, None) => None,
    };
    message.map(|message| Arc::new(Resource::encode(name, &message)))
}

/// Credentials that DestinationRules of the proxy's namespace name.
fn rule_credentials(cx: &mut Cx<'_>, class: &ProxyClass) -> Vec<String> {
    let mut names = Vec::new();
    for rule in cx.all::<DestinationRule>().iter() {
        let selected = rule.spec.workload_selector.as_ref().is_some_and(|s| {
            rule.meta.namespace == class.namespace
                && s.match_labels
                    .iter()
                    .all(|(k, v)| class.workload_labels.get(k) == Some(v))
        });
        if class.role == Role::Sidecar && !selected {
            continue;
        }
        let policies = rule
            .spec
            .traffic_policy
            .iter()
            .chain(rule.spec.subsets.iter().filter_map(|s| s.traffic_policy.as_ref()));
        for policy in policies {
            let of_ports = policy.port_level_settings.iter().filter_map(|p| p.tls.as_ref());
            for tls in policy
                .tls
                .iter()
                .chain(of_ports)
                .filter(|t| !t.credential_name.is_empty())
            {
                let name = resource_name(&tls.credential_name);
                names.push(format!("{name}{ROOTS}"));
                names.push(name);
            }
        }
    }
    names
}

/// Namespace and name of a credential's secret.
fn parse(name: &str, own: &str) -> Option<(String, String)> {
    let rest = name
        .strip_prefix("kubernetes://")
        .or_else(|| name.strip_prefix("kubernetes-gateway://"))?;
    match rest.split_once('/') {
        None if !rest.is_empty() => Some((own.to_owned(), rest.to_owned())),
        Some((namespace, secret)) if !namespace.is_empty() && !secret.is_empty() => {
            Some((namespace.to_owned(), secret.to_owned()))
        }
        _ => None,
    }
}

fn bytes(data: &[u8]) -> Option<core::DataSource> {
    Some(core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineBytes(data.to_vec())),
        ..Default::default()
    })
}

/// The first of these keys that has content.
fn content<'a>(secret: &'a Secret, keys: &[&str]) -> Option<&'a [u8]> {
    keys.iter()
        .find_map(|key| secret.data.get(*key))
        .map(Vec::as_slice)
        .filter(|data| !data.is_empty())
}

fn certificate(name: &str, secret: &Secret) -> Option<tls_v3::Secret> {
    let chain = content(secret, &["cert", "tls.crt"])?;
    let key = content(secret, &["key", "tls.key"])?;
    Some(tls_v3::Secret {
        name: name.to_owned(),
        r#type: Some(tls_v3::secret::Type::TlsCertificate(tls_v3::TlsCertificate {
            certificate_chain: bytes(chain),
            private_key: bytes(key),
            ocsp_staple: content(secret, &["tls.ocsp-staple"]).and_then(bytes),
            ..Default::default()
        })),
    })
}

fn roots(name: &str, secret: &Secret) -> Option<tls_v3::Secret> {
    let roots = content(secret, &["cacert", "ca.crt"])?;
    Some(tls_v3::Secret {
        name: name.to_owned(),
        r#type: Some(tls_v3::secret::Type::ValidationContext(
            tls_v3::CertificateValidationContext {
                trusted_ca: bytes(roots),
                crl: content(secret, &["crl", "ca.crl"]).and_then(bytes),
                ..Default::default()
            },
        )),
    })
}
