//! Certificates of gateways.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use x509_parser::pem::Pem;

use super::fields::{find, full_name, list, map, selects, shown, text};
use crate::message::{
    GATEWAY_DUPLICATE_CERTIFICATE, INVALID_GATEWAY_CREDENTIAL, Message, REFERENCED_RESOURCE_NOT_FOUND,
};
use crate::objects::{Objects, labels, name, namespace};

pub(super) fn duplicates(objects: &Objects, messages: &mut Vec<Message>) {
    let gateways: Vec<&Value> = objects.of_kind("Gateway").collect();
    for gateway in &gateways {
        let selector = map(&gateway["spec"]["selector"]);
        let others = gateways
            .iter()
            .filter(|other| !std::ptr::eq(**other, *gateway) && selects(&selector, &map(&other["spec"]["selector"])));
        for other in others {
            let shared = list(gateway, "/spec/servers")
                .any(|own| list(other, "/spec/servers").any(|theirs| same_certificate(&own["tls"], &theirs["tls"])));
            if shared {
                messages.push(Message::about(
                    GATEWAY_DUPLICATE_CERTIFICATE,
                    gateway,
                    format!(
                        "Duplicate certificate in multiple gateways [{} {}] may cause 404s if clients re-use HTTP2 \
                         connections.",
                        full_name(gateway),
                        full_name(other)
                    ),
                ));
            }
        }
    }
}

fn same_certificate(a: &Value, b: &Value) -> bool {
    let same = |field: &str| {
        let (a, b) = (text(a, field), text(b, field));
        !a.is_empty() && a == b
    };
    let none = |field: &str| text(a, field).is_empty() && text(b, field).is_empty();
    same("/credentialName") || (none("/credentialName") && same("/serverCertificate") && same("/privateKey"))
}

pub(super) fn secrets(objects: &Objects, messages: &mut Vec<Message>) {
    for gateway in objects.of_kind("Gateway") {
        let selector = map(&gateway["spec"]["selector"]);
        let Some(pod) = objects.of_kind("Pod").find(|pod| selects(&selector, &labels(pod))) else {
            let text = format!("Referenced selector not found: {:?}", shown(&selector));
            messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, gateway, text));
            continue;
        };
        let of = namespace(pod);
        let names = list(gateway, "/spec/servers")
            .map(|server| text(server, "/tls/credentialName"))
            .filter(|name| !name.is_empty());
        for credential in names {
            match find(objects, "Secret", of, credential) {
                None => {
                    let text = format!("Referenced credentialName not found: {credential:?}");
                    messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, gateway, text));
                }
                Some(secret) if !has_certificate(secret, objects.now()) => messages.push(Message::about(
                    INVALID_GATEWAY_CREDENTIAL,
                    gateway,
                    format!(
                        "The credential referenced by the Gateway {} in namespace {of} is invalid, which can cause the \
                         traffic not to work as expected.",
                        name(gateway)
                    ),
                )),
                Some(_) => {}
            }
        }
    }
}

/// Whether a secret has a certificate that can be read, under one of the pairs of names that gateways know.
fn has_certificate(secret: &Value, now: Option<i64>) -> bool {
    let data = |key: &str| {
        let plain = secret["stringData"][key].as_str();
        plain.map(str::to_owned).or_else(|| {
            let encoded: String = secret["data"][key].as_str()?.split_whitespace().collect();
            String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()
        })
    };
    [("cert", "key"), ("tls.crt", "tls.key")]
        .into_iter()
        .filter_map(|(certificate, key)| Some((data(certificate)?, data(key)?)))
        .any(|(certificate, key)| !key.is_empty() && is_valid(&certificate, now))
}

/// Whether a text begins with a certificate, and it is in force.
fn is_valid(text: &str, now: Option<i64>) -> bool {
    let Some(Ok(pem)) = Pem::iter_from_buffer(text.as_bytes()).next() else {
        return false;
    };
    pem.label == "CERTIFICATE"
        && pem.parse_x509().is_ok_and(|certificate| {
            let of = certificate.validity();
            now.is_none_or(|now| (of.not_before.timestamp()..=of.not_after.timestamp()).contains(&now))
        })
}
