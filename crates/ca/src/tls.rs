//! rustls for istiod's ports: a serving certificate and client roots that can be swapped while connections live.

use std::fmt;
use std::sync::{Arc, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

/// The one crypto provider of the workspace (RSA, ECDSA, X25519MLKEM768).
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A value that is read on every handshake and replaced now and then.
struct Swap<T>(RwLock<Arc<T>>);

impl<T> Swap<T> {
    fn new(value: Arc<T>) -> Self {
        Self(RwLock::new(value))
    }

    fn load(&self) -> Arc<T> {
        // A writer only stores a pointer, so a poisoned lock still guards a whole value.
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn store(&self, value: Arc<T>) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = value;
    }
}

/// The certificate that is served; new handshakes see a replacement at once.
pub struct ServingCertificate(Swap<CertifiedKey>);

impl ServingCertificate {
    /// Starts with `key` (see [`crate::issue::Serving::certified_key`]).
    pub fn new(key: Arc<CertifiedKey>) -> Self {
        Self(Swap::new(key))
    }

    /// What is served now.
    pub fn current(&self) -> Arc<CertifiedKey> {
        self.0.load()
    }

    /// Serves `key` from now on.
    pub fn replace(&self, key: Arc<CertifiedKey>) {
        self.0.store(key);
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServingCertificate")
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load())
    }
}

/// Verifies client certificates against the mesh's roots. A client may bring none; one that does not verify (foreign,
/// expired, not for client use) ends the handshake.
pub struct MeshClients(Swap<WebPkiBox>);

struct WebPkiBox(Arc<dyn ClientCertVerifier>);

/// The roots cannot be used to verify clients.
#[derive(Debug, thiserror::Error)]
#[error("the mesh's roots cannot verify client certificates: {0}")]
pub struct RootsError(String);

impl MeshClients {
    /// Trusts `roots`.
    ///
    /// # Errors
    /// If none of the roots is usable.
    pub fn new(roots: &[CertificateDer<'static>]) -> Result<Self, RootsError> {
        Ok(Self(Swap::new(Arc::new(verifier(roots)?))))
    }

    /// Trusts `roots` from now on.
    ///
    /// # Errors
    /// If none of the roots is usable; the old ones stay trusted.
    pub fn replace(&self, roots: &[CertificateDer<'static>]) -> Result<(), RootsError> {
        self.0.store(Arc::new(verifier(roots)?));
        Ok(())
    }
}

fn verifier(roots: &[CertificateDer<'static>]) -> Result<WebPkiBox, RootsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider())
        .allow_unauthenticated()
        .build()
        .map(WebPkiBox)
        .map_err(|e| RootsError(e.to_string()))
}

impl fmt::Debug for MeshClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshClients")
    }
}

impl ClientCertVerifier for MeshClients {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    // No hints: they would have to outlive a swap, and mesh clients have one certificate only.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.load().0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.load().0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.load().0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().0.supported_verify_schemes()
    }
}

/// TLS 1.2 and 1.3, ALPN `h2` and `http/1.1`. With `clients`, client certificates are asked for and verified if
/// brought (15012); without, none is asked for (15017).
pub fn server_config(certificate: Arc<ServingCertificate>, clients: Option<Arc<MeshClients>>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider());
    #[allow(
        clippy::expect_used,
        reason = "the provider has suites for both versions; nothing from outside is read"
    )]
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3 are compiled in");
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}
