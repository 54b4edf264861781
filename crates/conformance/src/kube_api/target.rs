//! The server under test and the administrator's credentials.

use std::sync::Arc;

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;

/// Where to send requests, as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// TLS with the administrator's certificate.
    pub admin: Arc<ClientConfig>,
    /// TLS without credentials.
    pub anyone: Arc<ClientConfig>,
}

impl Target {
    /// Reads a kubeconfig with inline certificates.
    ///
    /// # Errors
    /// When something is missing in it.
    pub fn from_kubeconfig(text: &str) -> anyhow::Result<Self> {
        let config: Value = serde_saphyr::from_str(text).context("the kubeconfig is no YAML")?;
        let data = |pointer: &str| -> anyhow::Result<Vec<u8>> {
            let text = config
                .pointer(pointer)
                .and_then(Value::as_str)
                .with_context(|| format!("no {pointer}"))?;
            Ok(STANDARD.decode(text)?)
        };
        let server = config
            .pointer("/clusters/0/cluster/server")
            .and_then(Value::as_str)
            .context("no server")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&data("/clusters/0/cluster/certificate-authority-data")?) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(&data("/users/0/user/client-certificate-data")?)
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&data("/users/0/user/client-key-data")?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = || -> anyhow::Result<_> {
            Ok(ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots.clone()))
        };
        Ok(Self {
            address: server.trim_start_matches("https://").trim_end_matches('/').to_owned(),
            admin: Arc::new(builder()?.with_client_auth_cert(chain, key)?),
            anyone: Arc::new(builder()?.with_no_client_auth()),
        })
    }
}
