//! The Kubernetes Gateway API: definitions that are too old, policies that select its proxies by labels.

use std::collections::BTreeMap;

use revision::selector::Labels;

use super::fields::{map, selects, text};
use crate::message::{GATEWAY_API_TOO_OLD, INEFFECTIVE_SELECTOR, Message};
use crate::objects::{Objects, labels, name, namespace};

/// Label of a gateway's pods: the gateway's name.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Kinds that attach to a gateway by reference.
const POLICIES: [&str; 4] = [
    "AuthorizationPolicy",
    "RequestAuthentication",
    "Telemetry",
    "WasmPlugin",
];

/// Oldest release of a definition that is read.
const OLDEST: [(&str, [u64; 3]); 4] = [
    ("grpcroutes.gateway.networking.k8s.io", [1, 1, 0]),
    ("backendtlspolicies.gateway.networking.k8s.io", [1, 4, 0]),
    ("tlsroutes.gateway.networking.k8s.io", [1, 5, 0]),
    ("tcproutes.gateway.networking.k8s.io", [1, 6, 0]),
];

pub(super) fn selectors(objects: &Objects, messages: &mut Vec<Message>) {
    let mut pods: BTreeMap<&str, Vec<(String, Labels)>> = BTreeMap::new();
    for pod in objects.of_kind("Pod") {
        let labels = labels(pod);
        if let Some(gateway) = labels.get(GATEWAY_NAME).cloned() {
            pods.entry(namespace(pod)).or_default().push((gateway, labels));
        }
    }
    for kind in POLICIES {
        for policy in objects.of_kind(kind) {
            let spec = &policy["spec"];
            let Some(selector) = spec.get("selector").filter(|_| spec.get("targetRef").is_none()) else {
                continue;
            };
            let selector = map(&selector["matchLabels"]);
            let own = pods.get(namespace(policy)).into_iter().flatten();
            for (gateway, _) in own.filter(|(_, labels)| selects(&selector, labels)) {
                let text =
                    format!("Ineffective selector on Kubernetes Gateway {gateway}. Use the TargetRef field instead.");
                messages.push(Message::about(INEFFECTIVE_SELECTOR, policy, text));
            }
        }
    }
}

pub(super) fn versions(objects: &Objects, messages: &mut Vec<Message>) {
    for definition in objects.of_kind("CustomResourceDefinition") {
        let Some((_, oldest)) = OLDEST.iter().find(|(known, _)| *known == name(definition)) else {
            continue;
        };
        let bundle = text(
            definition,
            "/metadata/annotations/gateway.networking.k8s.io~1bundle-version",
        );
        let Some(installed) = version(bundle) else { continue };
        if installed < *oldest {
            let [major, minor, patch] = oldest;
            messages.push(Message::about(
                GATEWAY_API_TOO_OLD,
                definition,
                format!(
                    "Gateway API CRD {:?} is at version {:?} but Istio requires at least \"{major}.{minor}.{patch}\"; \
                     resources of this kind will not be processed. Upgrade the Gateway API CRDs to satisfy the minimum \
                     version.",
                    name(definition),
                    bundle.trim_start_matches('v'),
                ),
            ));
        }
    }
}

/// Major, minor and patch, leaving out what marks a pre-release.
fn version(text: &str) -> Option<[u64; 3]> {
    let core = text.trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = core.split('.').map(str::parse);
    let first = parts.next()?.ok()?;
    let mut next = || parts.next().map_or(Some(0), Result::ok);
    Some([first, next()?, next()?])
}
