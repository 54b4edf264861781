//! What a workload does to get a certificate: make a key, ask for it to be signed.

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType,
};

use crate::spiffe::SpiffeId;

/// Kind of key (`WORKLOAD_RSA_KEY_SIZE`, `ECC_SIGNATURE_ALGORITHM` of the agent; control-plane.md §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// RSA, 2048 bits: the default.
    #[default]
    Rsa2048,
    /// RSA, 4096 bits.
    Rsa4096,
    /// ECDSA on P-256.
    EcdsaP256,
}

/// A fresh key and the request to sign it.
pub struct Request {
    /// Certificate request, PEM.
    pub csr_pem: String,
    /// Private key, PKCS#8 PEM. Never logged.
    pub key_pem: String,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")
    }
}

impl Request {
    /// A new key of `kind`, asking to be `identity`.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(identity: &SpiffeId, kind: KeyKind) -> Result<Self, rcgen::Error> {
        let key = match kind {
            KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
            KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?,
            KeyKind::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
        Ok(Self {
            csr_pem: params.serialize_request(&key)?.pem()?,
            key_pem: key.serialize_pem(),
        })
    }
}
