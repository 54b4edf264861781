//! A signing key with the certificates that lead from it to the mesh's roots.
//!
//! Two layouts of the secret that keeps it are read (control-plane.md §5): Istio's own (`istio-ca-secret` and
//! `cacerts`: `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem`, `root-cert.pem`) and that of `kubernetes.io/tls` secrets
//! (`tls.crt`, `tls.key`, `ca.crt`). Revisions share one such secret, so that their proxies trust each other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, PublicKeyData, RsaKeySize, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{clock, pem};

/// Lifetime of a self-signed root: ten years (control-plane.md §5).
pub const ROOT_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Keys of the secret, Istio's names.
pub mod keys {
    /// Certificate of the signing key.
    pub const CA_CERT: &str = "ca-cert.pem";
    /// Signing key.
    pub const CA_KEY: &str = "ca-key.pem";
    /// From the signing certificate up to, or including, the root.
    pub const CERT_CHAIN: &str = "cert-chain.pem";
    /// Roots to trust.
    pub const ROOT_CERT: &str = "root-cert.pem";
    /// `kubernetes.io/tls`: signing certificate and its chain.
    pub const TLS_CERT: &str = "tls.crt";
    /// `kubernetes.io/tls`: signing key.
    pub const TLS_KEY: &str = "tls.key";
    /// `kubernetes.io/tls`: roots to trust.
    pub const TLS_ROOT: &str = "ca.crt";
}

/// Why a secret or directory holds no usable authority. Messages never hold key material.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is not there.
    #[error(
        "the certificate authority's secret has no {0:?}; it needs ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem (or tls.crt, tls.key and ca.crt)"
    )]
    Missing(&'static str),
    /// A file cannot be read.
    #[error("{file} of the certificate authority cannot be read: {why}")]
    Unreadable {
        /// Key in the secret.
        file: &'static str,
        /// What the reader said.
        why: String,
    },
    /// The key does not belong to the certificate.
    #[error("ca-key.pem is not the key of ca-cert.pem; replace both together")]
    KeyMismatch,
    /// The certificate may not sign others.
    #[error("ca-cert.pem is not a certificate authority's certificate (basicConstraints CA:TRUE is missing)")]
    NotAuthority,
    /// The certificate is past its end.
    #[error("ca-cert.pem expired at {0}; put a fresh certificate authority into the secret")]
    Expired(Timestamp),
    /// No root of the bundle has signed the chain.
    #[error(
        "no certificate in root-cert.pem is the issuer at the end of cert-chain.pem; the bundle must hold the root that signed it"
    )]
    NoRoot,
    /// A key or certificate could not be made.
    #[error("cannot create the self-signed root: {0}")]
    Create(#[from] rcgen::Error),
    /// The system gave no randomness.
    #[error("the system's random number generator failed")]
    Random,
}

/// A signing key, its certificate, the intermediates above it, and the roots to trust. Immutable; see [`Current`].
pub struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    key_pem: String,
    certificate: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    not_before: Timestamp,
    not_after: Timestamp,
    self_signed: bool,
}

impl Authority {
    /// A new self-signed root: RSA 2048, organisation = trust domain, valid for [`ROOT_TTL`] from `now`.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn self_signed(trust_domain: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        Self::root_for(key, trust_domain, now, ROOT_TTL)
    }

    /// Reads the secret's data or the mounted directory's files: name → content, in either layout.
    ///
    /// # Errors
    /// Says which file is missing, unreadable or does not fit the others, or that the certificate has expired.
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>, now: Timestamp) -> Result<Self, AuthorityError> {
        let layout = if files.contains_key(keys::TLS_CERT) && files.contains_key(keys::TLS_KEY) {
            [keys::TLS_CERT, keys::TLS_KEY, keys::TLS_CERT, keys::TLS_ROOT]
        } else {
            [keys::CA_CERT, keys::CA_KEY, keys::CERT_CHAIN, keys::ROOT_CERT]
        };
        let get = |file: &'static str| files.get(file).ok_or(AuthorityError::Missing(file));
        let read =
            |file: &'static str| pem::certificates(get(file)?).map_err(|why| AuthorityError::Unreadable { file, why });
        let [cert_file, key_file, chain_file, root_file] = layout;
        let none = |file| AuthorityError::Unreadable {
            file,
            why: "no CERTIFICATE section in it".to_owned(),
        };
        let certificate = read(cert_file)?.into_iter().next().ok_or_else(|| none(cert_file))?;
        let unreadable = |why: String| AuthorityError::Unreadable { file: key_file, why };
        let key_der = pem::private_key(get(key_file)?).map_err(unreadable)?;
        let key = KeyPair::try_from(&key_der).map_err(|e| unreadable(e.to_string()))?;
        // A self-signed secret of Istio's has an empty cert-chain.pem and may lack root-cert.pem.
        let chain = if files.contains_key(chain_file) {
            read(chain_file)?
        } else {
            Vec::new()
        };
        let roots = match files.get(root_file) {
            Some(text) if !text.is_empty() => read(root_file)?,
            _ if chain.is_empty() => vec![certificate.clone()],
            _ => return Err(AuthorityError::Missing(root_file)),
        };
        if roots.is_empty() {
            return Err(none(root_file));
        }
        Self::assemble(key, pem::encode_key(&key_der), certificate, chain, roots, now)
    }

    /// The files of [`Authority::from_files`], Istio's names, for writing the secret. Holds the private key.
    pub fn to_files(&self) -> BTreeMap<String, Vec<u8>> {
        let chain: String = self.intermediates.iter().map(|c| pem::encode(c)).collect();
        BTreeMap::from([
            (keys::CA_CERT.to_owned(), pem::encode(&self.certificate).into_bytes()),
            (keys::CA_KEY.to_owned(), self.key_pem.clone().into_bytes()),
            (keys::CERT_CHAIN.to_owned(), chain.into_bytes()),
            (keys::ROOT_CERT.to_owned(), self.roots_pem().into_bytes()),
        ])
    }

    /// The roots to trust, PEM: content of `root-cert.pem` in the ConfigMap `istio-ca-root-cert`, and of `caBundle`.
    pub fn roots_pem(&self) -> String {
        self.roots.iter().map(|c| pem::encode(c)).collect()
    }

    /// The roots to trust.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.roots.clone()
    }

    /// What follows a leaf: the signing certificate and those above it, without the roots. Empty for a self-signed root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// When the first of the roots ends.
    pub fn roots_not_after(&self) -> Option<Timestamp> {
        let end = |root: &CertificateDer<'_>| {
            let (_, root) = X509Certificate::from_der(root).ok()?;
            Timestamp::from_second(root.validity().not_after.timestamp()).ok()
        };
        self.roots.iter().filter_map(end).min()
    }

    /// End of validity of the signing certificate.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Start of validity of the signing certificate.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Whether the signing certificate is itself a root: only then is it ours to renew.
    pub fn is_self_signed(&self) -> bool {
        self.self_signed
    }

    /// The same key under a new root certificate that starts `now`; what was signed before stays valid under it.
    pub(crate) fn renewed(&self, now: Timestamp) -> Result<Self, AuthorityError> {
        let unreadable = |why: String| AuthorityError::Unreadable {
            file: keys::CA_KEY,
            why,
        };
        let der = pem::private_key(self.key_pem.as_bytes()).map_err(unreadable)?;
        let key = KeyPair::try_from(&der).map_err(|e| unreadable(e.to_string()))?;
        let organisation = organisation(&self.certificate);
        let mut renewed = Self::root_for(key, &organisation, now, ROOT_TTL)?;
        // Roots added by hand (a migration between two roots) stay trusted.
        renewed
            .roots
            .extend(self.roots.iter().filter(|r| **r != self.certificate).cloned());
        Ok(renewed)
    }

    pub(crate) fn root_for(
        key: KeyPair,
        organisation: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(random_serial().ok_or(AuthorityError::Random)?);
        (params.not_before, params.not_after) = clock::validity(now, ttl);
        let certificate = params.self_signed(&key)?.der().clone();
        let key_pem = key.serialize_pem();
        Self::assemble(key, key_pem, certificate.clone(), Vec::new(), vec![certificate], now)
    }

    fn assemble(
        key: KeyPair,
        key_pem: String,
        certificate: CertificateDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let unreadable = |why: String| AuthorityError::Unreadable {
            file: keys::CA_CERT,
            why,
        };
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|e| unreadable(e.to_string()))?;
        if !parsed.is_ca() {
            return Err(AuthorityError::NotAuthority);
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(AuthorityError::KeyMismatch);
        }
        let moment = |t: i64| Timestamp::from_second(t).map_err(|e| unreadable(e.to_string()));
        let not_before = moment(parsed.validity().not_before.timestamp())?;
        let not_after = moment(parsed.validity().not_after.timestamp())?;
        if not_after <= now {
            return Err(AuthorityError::Expired(not_after));
        }
        let self_signed = parsed.subject() == parsed.issuer();
        let intermediates = if self_signed {
            Vec::new()
        } else {
            intermediates(&certificate, chain, &roots)
        };
        check_anchored(intermediates.last().unwrap_or(&certificate), &roots)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self {
            issuer,
            key_pem,
            certificate,
            intermediates,
            roots,
            not_before,
            not_after,
            self_signed,
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .field("intermediates", &self.intermediates.len())
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

/// The signing certificate first (`cert-chain.pem` may or may not repeat it), then what is above it, without roots.
fn intermediates(
    certificate: &CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    roots: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let above = chain.into_iter().filter(|c| c != certificate && !roots.contains(c));
    std::iter::once(certificate.clone()).chain(above).collect()
}

/// The topmost certificate must be signed by one of the roots, or be one.
fn check_anchored(top: &CertificateDer<'_>, roots: &[CertificateDer<'_>]) -> Result<(), AuthorityError> {
    let signed_by = |root: &CertificateDer<'_>| {
        let (Ok((_, top)), Ok((_, root))) = (X509Certificate::from_der(top), X509Certificate::from_der(root)) else {
            return false;
        };
        top.issuer() == root.subject() && top.verify_signature(Some(root.public_key())).is_ok()
    };
    if roots.iter().any(signed_by) {
        Ok(())
    } else {
        Err(AuthorityError::NoRoot)
    }
}

fn organisation(certificate: &CertificateDer<'_>) -> String {
    X509Certificate::from_der(certificate)
        .ok()
        .and_then(|(_, c)| {
            c.subject()
                .iter_organization()
                .next()
                .and_then(|o| o.as_str().ok())
                .map(str::to_owned)
        })
        .unwrap_or_default()
}

/// 127 random bits, so that no two certificates share a serial number even when made for one key.
pub(crate) fn random_serial() -> Option<SerialNumber> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    bytes[0] &= 0x7f;
    Some(SerialNumber::from_slice(&bytes))
}

/// The authority in force, shared by everything that signs or hands out roots; replaced when it is rotated.
#[derive(Debug, Clone)]
pub struct Current(Arc<watch::Sender<Arc<Authority>>>);

impl Current {
    /// Starts with `authority`.
    pub fn new(authority: Authority) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(authority))))
    }

    /// The one in force now.
    pub fn load(&self) -> Arc<Authority> {
        self.0.borrow().clone()
    }

    /// Puts another one in force and wakes the subscribers.
    pub fn replace(&self, authority: Authority) {
        self.0.send_replace(Arc::new(authority));
    }

    /// Told of every replacement: publish the roots, renew the serving certificate, push to proxies.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Authority>> {
        self.0.subscribe()
    }
}
