//! The server's side of TLS: what it shows, and whose client certificates it takes.

use super::certificate::Shown;
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tls(error.to_string())
}

/// Who signs the certificates of the API server's clients, in PEM: what the API server itself publishes. Nothing if it
/// publishes nothing, or does not answer now.
async fn published_authority(client: &kube::Client) -> String {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let asked = tokio::time::timeout(PATIENCE, api.get_opt("extension-apiserver-authentication")).await;
    let data = asked
        .ok()
        .and_then(|answer| answer.ok().flatten())
        .and_then(|map| map.data);
    data.and_then(|mut d| d.remove("client-ca-file")).unwrap_or_default()
}

/// Whose client certificates count: those that the node was told, and what the API server publishes. Where it publishes
/// nothing, the authority of the API server's own certificate is also that of its clients (in most clusters it is).
pub(super) async fn authorities(client: &kube::Client, config: &NodeConfig) -> Result<RootCertStore> {
    let published = published_authority(client).await;
    let second = if published.is_empty() {
        config.server_ca_pem.as_slice()
    } else {
        published.as_bytes()
    };
    let mut roots = RootCertStore::empty();
    for pem in [config.client_ca_pem.as_slice(), second] {
        for cert in CertificateDer::pem_slice_iter(pem) {
            roots.add(cert.map_err(failed)?).map_err(failed)?;
        }
    }
    Ok(roots)
}

/// How connections are accepted. A client that shows a certificate must show one that an authority has signed; one that
/// shows none is told by its requests who it is.
pub(super) fn config(roots: RootCertStore, shown: Arc<Shown>) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = if roots.is_empty() {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(failed)?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut server = builder.with_cert_resolver(shown);
    // Upgrades are a thing of HTTP/1.1.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}
