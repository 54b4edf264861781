//! Certificates that end soon: of the mesh's authority, of the webhooks, of gateways.

use std::collections::BTreeSet;

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
        let Some(secret) = objects.get("Secret", objects.system(), secret) else {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, SystemTime};

    use serde_json::json;

    use super::*;
    use crate::message::CERTIFICATE_EXPIRES;

    /// When the certificate below ends: 2026-12-10.
    const END: u64 = 1_796_860_800;

    /// The certificate of the example on the message's own page.
    fn certificate() -> String {
        let page = crate::pages::page(&CERTIFICATE_EXPIRES).unwrap();
        let begin = page.find("-----BEGIN").unwrap();
        let end = page[begin..].find("-----END CERTIFICATE-----").unwrap() + "-----END CERTIFICATE-----".len();
        page[begin..begin + end]
            .lines()
            .map(|line| format!("{}\n", line.trim()))
            .collect()
    }

    fn find_on(day: i64, objects: &[Value]) -> Vec<String> {
        let mut all = Objects::default();
        all.set_now(SystemTime::UNIX_EPOCH + Duration::from_secs(END.checked_add_signed(day * DAY).unwrap()));
        objects.iter().cloned().for_each(|object| all.add(object));
        let mut messages = Vec::new();
        check(&all, &mut messages);
        messages
            .iter()
            .map(|message| message.to_string().split(". ").next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn a_webhook_is_told_a_month_before_its_certificate_ends() {
        let bundle = BASE64_STANDARD.encode(certificate());
        let configuration = json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "istiod-default-validator"},
            "webhooks": [{"clientConfig": {"caBundle": bundle}}]});
        let foreign = json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "somebody-elses"},
            "webhooks": [{"clientConfig": {"caBundle": bundle}}]});
        let objects = [configuration, foreign];
        assert_eq!(find_on(-31, &objects), [""; 0]);
        let begin = "(ValidatingWebhookConfiguration istiod-default-validator) The certificate that the API server trusts for this webhook";
        assert_eq!(
            find_on(-29, &objects),
            [format!("Warning [TRY0002] {begin} ends in 29 days")]
        );
        assert_eq!(
            find_on(2, &objects),
            [format!("Error [TRY0002] {begin} has ended 2 days ago")]
        );
    }

    #[test]
    fn a_gateways_certificate_is_told_a_week_before() {
        let gateway = |name: &str| {
            json!({"kind": "Gateway", "metadata": {"name": name, "namespace": "app"}, "spec": {
                "selector": {"istio": "ingressgateway"}, "servers": [{"tls": {"credentialName": "shop"}}, {"tls": {"credentialName": ""}}]}})
        };
        let pod = json!({"kind": "Pod", "metadata": {"name": "in", "namespace": "istio-system", "labels": {"istio": "ingressgateway"}}});
        let secret = |name: &str| {
            json!({"kind": "Secret", "metadata": {"name": name, "namespace": "istio-system"},
                "data": {"tls.crt": BASE64_STANDARD.encode(certificate()), "tls.key": ""}})
        };
        let objects = [gateway("a"), gateway("b"), pod, secret("shop"), secret("unused")];
        assert_eq!(find_on(-8, &objects), [""; 0]);
        assert_eq!(
            find_on(-6, &objects),
            ["Warning [TRY0002] (Secret shop.istio-system) The certificate of a gateway ends in 6 days"]
        );
    }

    #[test]
    fn the_authority_is_looked_for_where_the_control_plane_is() {
        let secret = |namespace: &str| {
            json!({"kind": "Secret", "metadata": {"name": "istio-ca-secret", "namespace": namespace},
                "stringData": {"ca-cert.pem": certificate()}})
        };
        let told = |system: Option<&str>| {
            let mut objects = Objects::default();
            objects.set_now(SystemTime::UNIX_EPOCH + Duration::from_secs(END - 29 * 86_400));
            ["istio-system", "mesh"]
                .map(secret)
                .into_iter()
                .for_each(|secret| objects.add(secret));
            system.into_iter().for_each(|system| objects.set_system(system));
            let mut messages = Vec::new();
            check(&objects, &mut messages);
            messages
                .iter()
                .map(|message| message.to_string().split(". ").next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        let about = |namespace: &str| {
            [format!(
                "Warning [TRY0002] (Secret istio-ca-secret.{namespace}) The certificate of the mesh's authority (ca-cert.pem) ends in 29 days"
            )]
        };
        assert_eq!(told(None), about("istio-system"));
        assert_eq!(told(Some("mesh")), about("mesh"));
    }

    #[test]
    fn without_a_time_nothing_ends() {
        let mut objects = Objects::default();
        objects.add(
            json!({"kind": "Secret", "metadata": {"name": "cacerts", "namespace": "istio-system"},
            "stringData": {"ca-cert.pem": certificate()}}),
        );
        let mut messages = Vec::new();
        check(&objects, &mut messages);
        assert_eq!(messages, []);
    }
}
