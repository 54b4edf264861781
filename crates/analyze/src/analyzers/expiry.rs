//! Certificates that end soon: of the mesh's authority, of the webhooks, of gateways.

use std::collections::BTreeSet;

use api::names::ROOT_NAMESPACE;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use x509_parser::pem::Pem;

use super::fields::{find, list, map, selects, text};
use crate::message::{CERTIFICATE_EXPIRES, Level, Message};
use crate::objects::{Objects, labels, name, namespace};

const DAY: i64 = 86_400;
/// How long before its end a certificate of the authority is told: replacing it means restarting workloads.
const AUTHORITY: i64 = 30 * DAY;
/// The same for what is usually renewed by a program, which does so earlier.
const GATEWAY: i64 = 7 * DAY;
/// Secrets of the authority, and the keys in them that hold certificates.
const SECRETS: [(&str, &[&str]); 2] = [
    ("istio-ca-secret", &["ca-cert.pem"]),
    ("cacerts", &["ca-cert.pem", "root-cert.pem"]),
];

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    let Some(now) = objects.now() else { return };
    for (secret, keys) in SECRETS {
        let Some(secret) = objects.get("Secret", ROOT_NAMESPACE, secret) else {
            continue;
        };
        let ends = keys.iter().filter_map(|key| Some((key, end(&data(secret, key)?)?)));
        if let Some((key, end)) = ends.min_by_key(|(_, end)| *end) {
            let what = format!("The certificate of the mesh's authority ({key})");
            let remedy =
                "When it ends, no workload gets a certificate any more: replace it, then restart the workloads.";
            messages.extend(finding(secret, &what, end, now, AUTHORITY, remedy));
        }
    }
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        for configuration in objects.of_kind(kind).filter(|c| is_ours(c)) {
            let bundles = list(configuration, "/webhooks")
                .filter_map(|webhook| BASE64_STANDARD.decode(text(webhook, "/clientConfig/caBundle")).ok());
            if let Some(end) = bundles.filter_map(|bundle| end(&bundle)).min() {
                let what = "The certificate that the API server trusts for this webhook";
                let remedy = "When it ends, the webhook cannot be called: a running istiod writes a new one.";
                messages.extend(finding(configuration, what, end, now, AUTHORITY, remedy));
            }
        }
    }
    for secret in of_gateways(objects) {
        let certificate = ["tls.crt", "cert"].into_iter().find_map(|key| data(secret, key));
        if let Some(end) = certificate.as_deref().and_then(end) {
            let what = "The certificate of a gateway";
            let remedy = "When it ends, clients refuse the gateway: renew it.";
            messages.extend(finding(secret, what, end, now, GATEWAY, remedy));
        }
    }
}

fn is_ours(configuration: &Value) -> bool {
    labels(configuration).contains_key(api::names::label::REVISION)
        || ["istio-", "istiod-"]
            .iter()
            .any(|prefix| name(configuration).starts_with(prefix))
}

fn finding(object: &Value, what: &str, end: i64, now: i64, early: i64, remedy: &str) -> Option<Message> {
    let left = end - now;
    if left <= 0 {
        let ago = -left / DAY;
        let text = format!("{what} has ended {ago} days ago. {remedy}");
        return Some(Message::about(CERTIFICATE_EXPIRES, object, text).at(Level::Error));
    }
    (left < early).then(|| {
        let text = format!("{what} ends in {} days. {remedy}", left / DAY);
        Message::about(CERTIFICATE_EXPIRES, object, text)
    })
}

fn data(secret: &Value, key: &str) -> Option<Vec<u8>> {
    if let Some(plain) = secret["stringData"][key].as_str() {
        return Some(plain.as_bytes().to_vec());
    }
    let encoded: String = secret["data"][key].as_str()?.split_whitespace().collect();
    BASE64_STANDARD.decode(encoded).ok()
}

/// When the first of a text's certificates ends.
fn end(text: &[u8]) -> Option<i64> {
    Pem::iter_from_buffer(text)
        .filter_map(Result::ok)
        .filter(|pem| pem.label == "CERTIFICATE")
        .filter_map(|pem| Some(pem.parse_x509().ok()?.validity().not_after.timestamp()))
        .min()
}

/// Secrets that gateways serve.
fn of_gateways(objects: &Objects) -> Vec<&Value> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for gateway in objects.of_kind("Gateway") {
        let selector = map(&gateway["spec"]["selector"]);
        let Some(pod) = objects.of_kind("Pod").find(|pod| selects(&selector, &labels(pod))) else {
            continue;
        };
        for credential in list(gateway, "/spec/servers").map(|server| text(server, "/tls/credentialName")) {
            if let Some(secret) = find(objects, "Secret", namespace(pod), credential).filter(|_| !credential.is_empty())
                && seen.insert((namespace(secret), name(secret)))
            {
                found.push(secret);
            }
        }
    }
    found
}
