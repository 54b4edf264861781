//! `proxy-config secret`: certificates that a proxy has, and whether they are valid now.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use super::dump::{list, part, text};
use crate::failure::Failure;
use crate::table::row;

/// Secrets, each with its state; private keys are never in a dump.
pub fn select(dump: &Value) -> Result<Vec<Value>, Failure> {
    let part = part(dump, "SecretsConfigDump")?;
    let mut all = Vec::new();
    for (field, state) in [
        ("dynamic_warming_secrets", "WARMING"),
        ("dynamic_active_secrets", "ACTIVE"),
        ("static_secrets", "ACTIVE"),
    ] {
        for entry in list(part, &format!("/{field}")) {
            all.push(json!({"name": entry["name"], "state": state, "secret": entry["secret"]}));
        }
    }
    Ok(all)
}

/// The roots that a proxy trusts, as it has them.
pub fn root(dump: &Value) -> Option<String> {
    let secrets = select(dump).ok()?;
    let root = secrets.iter().find(|secret| text(secret, "/name") == "ROOTCA")?;
    let bundle = text(root, "/secret/validation_context/trusted_ca/inline_bytes");
    (!bundle.is_empty()).then(|| bundle.to_owned())
}

struct Certificate {
    serial: String,
    from: Timestamp,
    until: Timestamp,
    trust_domain: String,
}

/// All certificates of a PEM bundle; what is none is skipped.
fn certificates(encoded: &str) -> Vec<Certificate> {
    let Ok(pem) = base64::engine::general_purpose::STANDARD.decode(encoded) else {
        return Vec::new();
    };
    Pem::iter_from_buffer(&pem)
        .filter_map(|block| certificate(&block.ok()?))
        .collect()
}

fn certificate(block: &Pem) -> Option<Certificate> {
    let certificate = block.parse_x509().ok()?;
    let validity = certificate.validity();
    let names = certificate.subject_alternative_name().ok().flatten();
    let trust_domain = names
        .into_iter()
        .flat_map(|names| &names.value.general_names)
        .find_map(|name| match name {
            GeneralName::URI(uri) => Some(uri.strip_prefix("spiffe://")?.split('/').next()?.to_owned()),
            _ => None,
        });
    Some(Certificate {
        serial: certificate
            .raw_serial()
            .iter()
            .skip_while(|byte| **byte == 0)
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        from: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
        until: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        trust_domain: trust_domain.unwrap_or_default(),
    })
}

/// Columns: a line for each certificate, the first of a chain, all of a list of roots by trust domain.
pub fn table(secrets: &[Value], now: Timestamp) -> (Vec<Vec<String>>, usize) {
    let mut header = row([
        "RESOURCE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
    ]);
    let federated = secrets.iter().any(|secret| list(secret, DOMAINS).next().is_some());
    if federated {
        header.push("TRUST DOMAIN".to_owned());
    }
    let mut rows = vec![header];
    for secret in secrets {
        let (name, state) = (text(secret, "/name"), text(secret, "/state"));
        let found = of_secret(secret);
        if found.is_empty() {
            rows.push(row([name, "", state, "false", "", "", ""]));
        }
        for (kind, certificate) in found {
            let valid = (certificate.from <= now && now <= certificate.until).to_string();
            let (from, until) = (certificate.from.to_string(), certificate.until.to_string());
            let mut line = row([name, kind, state, &valid, &certificate.serial, &until, &from]);
            if federated {
                line.push(certificate.trust_domain);
            }
            rows.push(line);
        }
    }
    (rows, 5)
}

/// Where SPIFFE's validator keeps roots by trust domain.
const DOMAINS: &str = "/secret/validation_context/custom_validator_config/typed_config/trust_domains";

fn of_secret(secret: &Value) -> Vec<(&'static str, Certificate)> {
    let chain = text(secret, "/secret/tls_certificate/certificate_chain/inline_bytes");
    if !chain.is_empty() {
        return certificates(chain)
            .into_iter()
            .take(1)
            .map(|certificate| ("Cert Chain", certificate))
            .collect();
    }
    let root = text(secret, "/secret/validation_context/trusted_ca/inline_bytes");
    if !root.is_empty() {
        return certificates(root)
            .into_iter()
            .take(1)
            .map(|certificate| ("CA", certificate))
            .collect();
    }
    let mut found = Vec::new();
    for domain in list(secret, DOMAINS) {
        for mut certificate in certificates(text(domain, "/trust_bundle/inline_bytes")) {
            text(domain, "/name").clone_into(&mut certificate.trust_domain);
            found.push(("CA", certificate));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_root_is_the_one_of_that_name() {
        let secret = |name: &str, field: &str| json!({"name": name, "secret": {"name": name, "validation_context": {"trusted_ca": {"inline_bytes": field}}}});
        let dump = |secrets: Vec<Value>| json!({"configs": [{"@type": "x/envoy.admin.v3.SecretsConfigDump", "dynamic_active_secrets": secrets}]});
        assert_eq!(
            root(&dump(vec![secret("default", "a"), secret("ROOTCA", "b")])),
            Some("b".to_owned())
        );
        assert_eq!(root(&dump(vec![secret("default", "a"), secret("ROOTCA", "")])), None);
        assert_eq!(root(&json!({})), None);
    }

    #[test]
    fn a_secret_without_a_certificate_is_listed_as_invalid() {
        let secrets = [json!({"name": "default", "state": "WARMING", "secret": {}})];
        let (rows, padding) = table(&secrets, Timestamp::UNIX_EPOCH);
        insta::assert_snapshot!(crate::table::columns(&rows, padding));
    }
}
