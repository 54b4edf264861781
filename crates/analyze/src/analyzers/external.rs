//! Webhooks of a control plane in another cluster, which are reached by a URL.

use std::net::IpAddr;

use serde_json::Value;

use crate::message::{EXTERNAL_CONTROL_PLANE_ADDRESS, INVALID_EXTERNAL_CONTROL_PLANE, Message};
use crate::objects::{Objects, name};

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        for configuration in objects
            .of_kind(kind)
            .filter(|configuration| is_istios(name(configuration)))
        {
            for webhook in configuration["webhooks"].as_array().into_iter().flatten() {
                // In the same cluster it is a Service.
                if webhook.pointer("/clientConfig/service").is_none() {
                    let webhook_name = webhook["name"].as_str().unwrap_or_default();
                    let url = webhook
                        .pointer("/clientConfig/url")
                        .and_then(Value::as_str)
                        .unwrap_or_default();
                    messages.extend(finding(configuration, webhook_name, url));
                }
            }
        }
    }
}

fn is_istios(name: &str) -> bool {
    [
        "istio-validator",
        "istio-sidecar-injector",
        "istiod-default-validator",
        "istio-revision-tag",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

fn finding(configuration: &Value, webhook: &str, url: &str) -> Option<Message> {
    let host = host(url);
    if host.is_empty() {
        let text = format!(
            "The hostname ({url}) that was provided for the webhook ({webhook}) to reach the ingress gateway on the \
             external control plane cluster is blank. Traffic may not flow properly."
        );
        return Some(Message::about(INVALID_EXTERNAL_CONTROL_PLANE, configuration, text));
    }
    host.parse::<IpAddr>().ok().map(|_| {
        let text = format!(
            "The address ({url}) that was provided for the webhook ({webhook}) to reach the ingress gateway on the \
             external control plane cluster is an IP address. This is not recommended for a production environment."
        );
        Message::about(EXTERNAL_CONTROL_PLANE_ADDRESS, configuration, text)
    })
}

/// The host of `https://host:port/path`; brackets around an IPv6 address are left out.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    }
}
