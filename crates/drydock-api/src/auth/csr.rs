//! Validation of certificate signing requests.

use crate::{field::FieldError, objects::text};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use serde_json::{Value, json};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

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

/// Who a request says it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Common name: becomes the user.
    pub common_name: String,
    /// Organizations: become groups.
    pub organizations: Vec<String>,
    /// Alternative names that are host names or addresses.
    pub hosts: usize,
    /// Alternative names of other kinds.
    pub other_names: usize,
}

/// The subject of a request; empty if it cannot be read.
#[must_use]
pub fn subject(encoded: &str) -> Subject {
    let Ok(pem) = STANDARD.decode(encoded) else {
        return Subject::default();
    };
    let Ok(der) = CertificateSigningRequestDer::from_pem_slice(&pem) else {
        return Subject::default();
    };
    let Ok((_, parsed)) = X509CertificationRequest::from_der(&der) else {
        return Subject::default();
    };
    let subject = &parsed.certification_request_info.subject;
    let mut out = Subject {
        common_name: subject
            .iter_common_name()
            .next()
            .and_then(|one| one.as_str().ok())
            .unwrap_or_default()
            .to_owned(),
        organizations: subject
            .iter_organization()
            .filter_map(|one| one.as_str().ok())
            .map(str::to_owned)
            .collect(),
        ..Subject::default()
    };
    for extension in parsed.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            let host = |name: &&GeneralName<'_>| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_));
            let hosts = names.general_names.iter().filter(host).count();
            out.hosts += hosts;
            out.other_names += names.general_names.len() - hosts;
        }
    }
    out
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
