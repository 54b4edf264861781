//! Validation of certificate signing requests.

use crate::{field::FieldError, objects::text};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use serde_json::{Value, json};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

/// Shortest lifetime that may be asked for, seconds.
const SHORTEST: i64 = 600;

/// Problems of a CertificateSigningRequest.
#[must_use]
pub fn problems(request: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = &request["spec"];
    if let Some(problem) = bad_request(text(spec, &["request"])) {
        out.push(FieldError::invalid(
            "spec.request",
            &json!(text(spec, &["request"])),
            problem,
        ));
    }
    if spec["usages"].as_array().is_none_or(Vec::is_empty) {
        out.push(FieldError::required("spec.usages", ""));
    }
    let signer = text(spec, &["signerName"]);
    if signer.is_empty() {
        out.push(FieldError::required("spec.signerName", ""));
    } else if !is_signer(signer) {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        out.push(FieldError::invalid("spec.signerName", &spec["signerName"], detail));
    }
    if let Some(seconds) = spec["expirationSeconds"].as_i64()
        && seconds < SHORTEST
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        out.push(FieldError::invalid("spec.expirationSeconds", &json!(seconds), detail));
    }
    out
}

/// Organizations in the subject of a request, which become groups; none if it cannot be read.
#[must_use]
pub fn organizations(encoded: &str) -> Vec<String> {
    let Ok(pem) = STANDARD.decode(encoded) else {
        return Vec::new();
    };
    let Ok(der) = CertificateSigningRequestDer::from_pem_slice(&pem) else {
        return Vec::new();
    };
    let Ok((_, parsed)) = X509CertificationRequest::from_der(&der) else {
        return Vec::new();
    };
    let subject = &parsed.certification_request_info.subject;
    let names = subject.iter_organization().filter_map(|one| one.as_str().ok());
    names.map(str::to_owned).collect()
}

fn bad_request(encoded: &str) -> Option<String> {
    let not_pem = || Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    let Ok(pem) = STANDARD.decode(encoded) else {
        return not_pem();
    };
    let Ok(der) = CertificateSigningRequestDer::from_pem_slice(&pem) else {
        return not_pem();
    };
    X509CertificationRequest::from_der(&der)
        .err()
        .map(|error| format!("asn1: {error}"))
}

fn is_signer(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, path)| {
        domain.contains('.')
            && domain.split('.').all(|l| {
                !l.is_empty()
                    && l.bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            })
            && !path.is_empty()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_are_checked() {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::default()
            .serialize_request(&key)
            .unwrap()
            .pem()
            .unwrap();
        let good = json!({"spec": {"request": STANDARD.encode(pem), "signerName": "example.com/s", "usages": ["digital signature"]}});
        assert!(problems(&good).is_empty());
        let bad = json!({"spec": {"request": "", "signerName": "bad", "usages": []}});
        let found: Vec<String> = problems(&bad).iter().map(|p| p.field.clone()).collect();
        assert_eq!(found, ["spec.request", "spec.usages", "spec.signerName"]);
    }
}
