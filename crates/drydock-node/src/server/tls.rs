//! The server's side of TLS: what it shows, and the demand for a client certificate signed by the cluster's authority.

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
use tokio_rustls::TlsAcceptor;

const PATIENCE: Duration = Duration::from_secs(2);

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tls(error.to_string())
}

/// Who signs the certificates of the API server's clients, in PEM: what the API server itself publishes. Nothing if it
/// publishes nothing, or does not answer now.
pub(super) async fn published_authority(client: &kube::Client) -> String {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let asked = tokio::time::timeout(PATIENCE, api.get_opt("extension-apiserver-authentication")).await;
    let data = asked
        .ok()
        .and_then(|answer| answer.ok().flatten())
        .and_then(|map| map.data);
    data.and_then(|mut d| d.remove("client-ca-file")).unwrap_or_default()
}

/// What accepts connections of clients whose certificate one of the authorities has signed.
pub(super) fn acceptor(config: &NodeConfig, published: &str, shown: Arc<Shown>) -> Result<TlsAcceptor> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&config.client_ca_pem) {
        roots.add(cert.map_err(failed)?).map_err(failed)?;
    }
    for cert in CertificateDer::pem_slice_iter(published.as_bytes()) {
        roots.add(cert.map_err(failed)?).map_err(failed)?;
    }
    if roots.is_empty() {
        return Err(Error::Tls(
            "no client authority: give the cluster CA (certificate-authority-data of the kubeconfig)".into(),
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(failed)?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    // Upgrades are a thing of HTTP/1.1.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}
