//! The server's side of TLS: the certificate that it was given, or one of its own making (nobody verifies a kubelet's
//! unless told to), and the demand for a client certificate signed by the cluster's authority.

use crate::config::NodeConfig;
use crate::error::{Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tls(error.to_string())
}

/// What accepts connections.
pub(super) fn acceptor(config: &NodeConfig) -> Result<TlsAcceptor> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&config.client_ca_pem) {
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
    let (chain, key) = match &config.serving {
        Some(given) => {
            let chain = CertificateDer::pem_slice_iter(&given.cert_pem).collect::<std::result::Result<_, _>>();
            (
                chain.map_err(failed)?,
                PrivateKeyDer::from_pem_slice(&given.key_pem).map_err(failed)?,
            )
        }
        None => {
            let names = vec![config.name.clone(), config.node_ip().to_string()];
            let own = rcgen::generate_simple_self_signed(names).map_err(failed)?;
            let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).map_err(failed)?;
            (vec![own.cert.der().clone()], key)
        }
    };
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(failed)?;
    // Upgrades are a thing of HTTP/1.1.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}
