//! Mutual TLS: an authority that is plugged into the control plane, and the certificates of sidecars.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A name of the control plane.
const NAME: &str = "istiod.istio-system.svc";

/// Signs certificates of sidecars, and by the control plane its own.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    /// Handshakes that went on with an earlier session, and those that did not.
    pub resumed: AtomicU64,
    pub full: AtomicU64,
}

impl Authority {
    /// A new one, with its files in a folder.
    pub fn write(folder: &Path) -> Result<Arc<Self>> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params
            .distinguished_name
            .push(DnType::OrganizationName, "cluster.local");
        let root = params.self_signed(&key)?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for name in ["ca-cert.pem", "cert-chain.pem", "root-cert.pem"] {
            std::fs::write(folder.join(name), root.pem())?;
        }
        std::fs::write(folder.join("ca-key.pem"), key.serialize_pem())?;
        Ok(Arc::new(Self {
            root: root.der().clone(),
            issuer: Issuer::new(params, key),
            resumed: AtomicU64::new(0),
            full: AtomicU64::new(0),
        }))
    }

    /// A sidecar's way to connect; it remembers sessions, as a proxy does as long as it runs.
    pub fn connector(&self, namespace: &str, account: &str) -> Result<TlsConnector> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = params.signed_by(&key, &self.issuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![leaf.der().clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// Connects and counts how.
    pub async fn connect(
        &self,
        connector: &TlsConnector,
        host: &str,
        port: u16,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(NAME).map_err(std::io::Error::other)?;
        let stream = connector.connect(name, stream).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        let counter = if resumed { &self.resumed } else { &self.full };
        counter.fetch_add(1, Relaxed);
        Ok(stream)
    }
}
