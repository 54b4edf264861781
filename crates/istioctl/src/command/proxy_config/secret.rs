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

/// The roots that a proxy trusts, one at least.
pub fn roots(dump: &Value) -> Option<Vec<Vec<u8>>> {
    let secrets = select(dump).ok()?;
    let root = secrets.iter().find(|secret| text(secret, "/name") == "ROOTCA")?;
    let roots: Vec<_> = blocks(text(root, ROOT))
        .into_iter()
        .map(|block| block.contents)
        .collect();
    (!roots.is_empty()).then_some(roots)
}

struct Certificate {
    serial: String,
    from: Timestamp,
    until: Timestamp,
    is_authority: bool,
    trust_domain: String,
}

/// The blocks of a PEM bundle; what is none is skipped.
fn blocks(encoded: &str) -> Vec<Pem> {
    let pem = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .unwrap_or_default();
    Pem::iter_from_buffer(&pem).filter_map(Result::ok).collect()
}

/// All certificates of a PEM bundle.
fn certificates(encoded: &str) -> Vec<Certificate> {
    blocks(encoded).iter().filter_map(certificate).collect()
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
    let serial: String = certificate
        .raw_serial()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(Certificate {
        // As wide as most are, so that columns of them can be compared by eye.
        serial: format!("{:0>32}", serial.trim_start_matches('0')),
        from: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
        until: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        is_authority: certificate.is_ca(),
        trust_domain: trust_domain.unwrap_or_default(),
    })
}

/// What is said where there is no secret at all.
pub const NONE: &str = "No active or warming secrets found.\n";

/// Columns: a line for each certificate, the first of a chain, all of a list of roots by trust domain.
pub fn table(secrets: &[Value], now: Timestamp) -> (Vec<Vec<String>>, usize) {
    let found: Vec<(&Value, Vec<Certificate>)> = secrets.iter().map(|secret| (secret, of_secret(secret))).collect();
    // A column with gaps would say less than it seems to.
    let is_known = |certificates: &Vec<Certificate>| {
        !certificates.is_empty() && certificates.iter().all(|one| !one.trust_domain.is_empty())
    };
    let federated = !found.is_empty() && found.iter().all(|(_, certificates)| is_known(certificates));
    let mut header = row([
        "RESOURCE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
    ]);
    if federated {
        header.push("TRUST DOMAIN".to_owned());
    }
    let mut rows = vec![header];
    for (secret, certificates) in found {
        let (name, state) = (text(secret, "/name"), text(secret, "/state"));
        if certificates.is_empty() {
            rows.push(row([name, "", state, "false", "", "", ""]));
        }
        for certificate in certificates {
            let kind = if certificate.is_authority { "CA" } else { "Cert Chain" };
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

/// Where a secret keeps a certificate and those that it is signed by.
const CHAIN: &str = "/secret/tls_certificate/certificate_chain/inline_bytes";
/// Where it keeps roots.
const ROOT: &str = "/secret/validation_context/trusted_ca/inline_bytes";
/// Where SPIFFE's validator keeps roots by trust domain.
const DOMAINS: &str = "/secret/validation_context/custom_validator_config/typed_config/trust_domains";

fn of_secret(secret: &Value) -> Vec<Certificate> {
    for bundle in [text(secret, CHAIN), text(secret, ROOT)] {
        if !bundle.is_empty() {
            return certificates(bundle).into_iter().take(1).collect();
        }
    }
    let mut found = Vec::new();
    for domain in list(secret, DOMAINS) {
        for mut certificate in certificates(text(domain, "/trust_bundle/inline_bytes")) {
            text(domain, "/name").clone_into(&mut certificate.trust_domain);
            found.push(certificate);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The certificate of an authority, with a short serial number.
    const AUTHORITY: &str = include_str!("testdata/root.pem");
    /// That of `spiffe://cluster.local/ns/app/sa/web`.
    const WEB: &str = include_str!("testdata/web.pem");

    fn encoded(pem: &str) -> String {
        base64::engine::general_purpose::STANDARD.encode(pem)
    }

    fn trusting(name: &str, pem: &str) -> Value {
        json!({"name": name, "secret": {"name": name, "validation_context": {"trusted_ca": {"inline_bytes": encoded(pem)}}}})
    }

    fn dump(secrets: &[Value]) -> Value {
        json!({"configs": [{"@type": "x/envoy.admin.v3.SecretsConfigDump", "dynamic_active_secrets": secrets}]})
    }

    fn shown(secrets: &[Value]) -> String {
        let (rows, padding) = table(secrets, "2027-01-01T00:00:00Z".parse().unwrap());
        crate::table::columns(&rows, padding)
    }

    #[test]
    fn the_roots_are_those_of_the_secret_of_that_name() {
        let count = |secrets: &[Value]| roots(&dump(secrets)).map(|roots| roots.len());
        let both = format!("{AUTHORITY}{WEB}");
        assert_eq!(count(&[trusting("default", WEB), trusting("ROOTCA", &both)]), Some(2));
        assert_eq!(count(&[trusting("default", WEB), trusting("ROOTCA", "")]), None);
        assert_eq!(count(&[trusting("ROOTCA", "no certificate")]), None);
        assert_eq!(roots(&json!({})), None);
    }

    #[test]
    fn a_certificate_says_itself_what_it_is() {
        let chain = json!({"tls_certificate": {"certificate_chain": {"inline_bytes": encoded(WEB)}}});
        let own = json!({"name": "default", "secret": chain});
        let secrets = select(&dump(&[own.clone(), trusting("ROOTCA", AUTHORITY)])).unwrap();
        insta::assert_snapshot!(shown(&secrets), @r"
        RESOURCE NAME     TYPE           STATUS     VALID CERT     SERIAL NUMBER                          NOT AFTER                NOT BEFORE
        default           Cert Chain     ACTIVE     true           7f00000000000000000000000000000001     2036-11-24T00:48:22Z     2026-11-27T00:48:22Z
        ROOTCA            CA             ACTIVE     true           000000000000000000000000000000a1       2036-11-24T00:48:22Z     2026-11-27T00:48:22Z
        ");
        // Trust domains are shown where each is known.
        insta::assert_snapshot!(shown(&select(&dump(&[own])).unwrap()), @r"
        RESOURCE NAME     TYPE           STATUS     VALID CERT     SERIAL NUMBER                          NOT AFTER                NOT BEFORE               TRUST DOMAIN
        default           Cert Chain     ACTIVE     true           7f00000000000000000000000000000001     2036-11-24T00:48:22Z     2026-11-27T00:48:22Z     cluster.local
        ");
    }

    #[test]
    fn a_secret_without_a_certificate_is_listed_as_invalid() {
        let secrets = [json!({"name": "default", "state": "WARMING", "secret": {}})];
        insta::assert_snapshot!(shown(&secrets), @r"
        RESOURCE NAME     TYPE     STATUS      VALID CERT     SERIAL NUMBER     NOT AFTER     NOT BEFORE
        default                    WARMING     false                                          
        ");
    }
}
