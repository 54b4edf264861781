//! Bounded reading and writing of PEM.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// No bundle of certificates is longer than this, in bytes. Also bounds how many certificates one holds.
pub(crate) const MAX_BUNDLE: usize = 1024 * 1024;

/// Every certificate in `text`, in order; other sections are skipped.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if text.len() > MAX_BUNDLE {
        return Err(format!(
            "{} bytes of PEM are more than the {MAX_BUNDLE} allowed",
            text.len()
        ));
    }
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())
}

/// The first private key in `text`: PKCS#8, PKCS#1 or SEC1.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if text.len() > MAX_BUNDLE {
        return Err(format!(
            "{} bytes of PEM are more than the {MAX_BUNDLE} allowed",
            text.len()
        ));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|e| e.to_string())
}

/// One certificate as PEM, lines of 64, ended by a newline.
pub(crate) fn encode(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config)
}

/// A private key as PEM, under the label of its encoding.
pub(crate) fn encode_key(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, key.secret_der()), config)
}
