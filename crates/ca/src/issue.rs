//! What the authority signs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SubjectPublicKeyInfo,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use crate::authority::{Authority, random_serial};
use crate::spiffe::SpiffeId;
use crate::{clock, pem};

/// Lifetime of a workload certificate when none is asked for.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// Longest lifetime of a workload certificate; longer requests get this.
pub const MAX_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// Lifetime of istiod's own serving certificate; renew at half of it.
pub const SERVING_TTL: Duration = Duration::from_secs(365 * 24 * 3600);
/// No certificate request is longer than this, in bytes of PEM.
pub const MAX_REQUEST: usize = 32 * 1024;
/// No serving certificate has more names than this.
pub const MAX_NAMES: usize = 100;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is too long, not PEM, not a request, or not signed with its own key.
    #[error("the certificate request is refused: {0}")]
    Request(String),
    /// A DNS name is not one.
    #[error("{0:?} is not a DNS name for a serving certificate")]
    Name(String),
    /// The authority's certificate has expired: nothing it signs would verify.
    #[error("the certificate authority's certificate expired at {0}; rotate it first")]
    AuthorityExpired(Timestamp),
    /// The certificate cannot be made.
    #[error("cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
    /// The system gave no randomness.
    #[error("the system's random number generator failed")]
    Random,
}

/// A signed workload certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM, leaf first, then intermediates one by one; the last element is the whole root bundle
    /// (control-plane.md §5, `cert_chain` of the response).
    pub chain: Vec<String>,
    /// End of validity.
    pub not_after: Timestamp,
}

/// A certificate and the key made for it.
pub struct Serving {
    /// Leaf first, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// End of validity.
    pub not_after: Timestamp,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Serving {
    /// As rustls serves it.
    ///
    /// # Errors
    /// If the TLS library does not take the key.
    pub fn certified_key(&self) -> Result<Arc<CertifiedKey>, rustls::Error> {
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&self.key)?;
        Ok(Arc::new(CertifiedKey::new(self.chain.clone(), key)))
    }
}

impl Authority {
    /// Signs the public key of `request_pem` for `identity`, the authenticated caller. Names and extensions that the
    /// request asks for are ignored. `ttl`: `None` means [`DEFAULT_TTL`]; at most [`MAX_TTL`], and never beyond the
    /// authority's own end.
    ///
    /// # Errors
    /// If the request is malformed, or the authority has expired.
    pub fn issue(
        &self,
        request_pem: &str,
        identity: &SpiffeId,
        ttl: Option<Duration>,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        let key = requested_key(request_pem)?;
        let mut params = self.leaf(ttl.unwrap_or(DEFAULT_TTL).min(MAX_TTL), now)?;
        let uri = identity.to_string().try_into()?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let not_after = end(&params);
        let leaf = params.signed_by(&key, &self.issuer)?;
        let mut chain = vec![pem::encode(leaf.der())];
        chain.extend(self.chain().iter().map(|c| pem::encode(c)));
        chain.push(self.roots_pem());
        Ok(Issued { chain, not_after })
    }

    /// A certificate and a new P-256 key for `names`, as istiod serves on 15012 and 15017 (revisions.md §4.6).
    ///
    /// # Errors
    /// If a name is none, there are too many, or the authority has expired.
    pub fn serving(&self, names: &[String], ttl: Duration, now: Timestamp) -> Result<Serving, IssueError> {
        if names.is_empty() || names.len() > MAX_NAMES {
            return Err(IssueError::Name(format!("a list of {} names", names.len())));
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = self.leaf(ttl, now)?;
        for name in names {
            let san = match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => {
                    rustls_pki_types::DnsName::try_from(name.as_str()).map_err(|_| IssueError::Name(name.clone()))?;
                    SanType::DnsName(name.as_str().try_into()?)
                }
            };
            params.subject_alt_names.push(san);
        }
        let not_after = end(&params);
        let leaf = params.signed_by(&key, &self.issuer)?;
        let mut chain = vec![leaf.der().clone()];
        chain.extend(self.chain().iter().cloned());
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(Serving { chain, not_after, key })
    }

    fn leaf(&self, ttl: Duration, now: Timestamp) -> Result<CertificateParams, IssueError> {
        let left = self.not_after().as_second() - now.as_second();
        let left = u64::try_from(left)
            .ok()
            .filter(|l| *l > 0)
            .ok_or(IssueError::AuthorityExpired(self.not_after()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(random_serial().ok_or(IssueError::Random)?);
        (params.not_before, params.not_after) = clock::validity(now, ttl.min(Duration::from_secs(left)));
        Ok(params)
    }
}

fn end(params: &CertificateParams) -> Timestamp {
    Timestamp::from_second(params.not_after.unix_timestamp()).unwrap_or(Timestamp::MAX)
}

/// The public key of a certificate request whose signature proves possession of the private key.
fn requested_key(request_pem: &str) -> Result<SubjectPublicKeyInfo, IssueError> {
    if request_pem.len() > MAX_REQUEST {
        let why = format!("{} bytes are more than the {MAX_REQUEST} allowed", request_pem.len());
        return Err(IssueError::Request(why));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(request_pem.as_bytes())
        .map_err(|e| IssueError::Request(format!("not PEM of a CERTIFICATE REQUEST: {e}")))?;
    let (_, request) = X509CertificationRequest::from_der(&der)
        .map_err(|e| IssueError::Request(format!("not a PKCS#10 request: {e}")))?;
    request.verify_signature().map_err(|_| {
        IssueError::Request(
            "its signature does not fit its public key (RSA or ECDSA with SHA-256 or better)".to_owned(),
        )
    })?;
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)?;
    if key.der_bytes().is_empty() {
        return Err(IssueError::Request("it has no public key".to_owned()));
    }
    Ok(key)
}
