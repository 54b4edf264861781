//! Authorization and authentication policies that protect nothing, or trust too much.

use std::collections::BTreeMap;

use api::names::ROOT_NAMESPACE;
use revision::selector::Labels;
use serde_json::Value;

use super::fields::{full_name, list, map, selects, shown, texts};
use super::membership;
use crate::message::{JWKS_FETCH_UNRESTRICTED, Message, NO_MATCHING_WORKLOADS, REFERENCED_RESOURCE_NOT_FOUND};
use crate::objects::{Objects, labels, namespace};

/// Setting that keeps the control plane from fetching keys anywhere.
const BLOCKED_CIDRS: &str = "BLOCKED_CIDRS_IN_JWKS_URIS";
/// Most policies named in one message.
const NAMED: usize = 5;

pub(super) fn authorization(objects: &Objects, messages: &mut Vec<Message>) {
    let mut pods: BTreeMap<&str, Vec<Labels>> = BTreeMap::new();
    for pod in objects.of_kind("Pod") {
        if membership::pod(objects, pod) || membership::pod_is_ambient(pod) {
            pods.entry(namespace(pod)).or_default().push(labels(pod));
        }
    }
    let root = objects.mesh_config()["rootNamespace"]
        .as_str()
        .unwrap_or(ROOT_NAMESPACE);
    for policy in objects.of_kind("AuthorizationPolicy") {
        workloads(policy, &pods, root, messages);
        for from in list(policy, "/spec/rules").flat_map(|rule| list(rule, "/from")) {
            let named = [texts(from, "/source/namespaces"), texts(from, "/source/notNamespaces")];
            for name in named.concat() {
                if !objects.namespaces().any(|(namespace, _)| fits(namespace, name)) {
                    let text = format!("Referenced namespace not found: {name:?}");
                    messages.push(Message::about(REFERENCED_RESOURCE_NOT_FOUND, policy, text));
                }
            }
        }
    }
}

fn workloads(policy: &Value, pods: &BTreeMap<&str, Vec<Labels>>, root: &str, messages: &mut Vec<Message>) {
    let of = namespace(policy);
    let selector = policy["spec"].get("selector").map(|s| map(&s["matchLabels"]));
    let own = pods.get(of).map(Vec::as_slice).unwrap_or_default();
    let matches = match &selector {
        None if of == root => true,
        None => !own.is_empty(),
        Some(selector) if of == root => pods.values().flatten().any(|labels| selects(selector, labels)),
        Some(selector) => own.iter().any(|labels| selects(selector, labels)),
    };
    if !matches {
        let selector = selector.map(|s| shown(&s)).unwrap_or_default();
        let text = format!("No matching workloads for this resource with the following labels: {selector}");
        messages.push(Message::about(NO_MATCHING_WORKLOADS, policy, text));
    }
}

/// Whether a namespace is what a pattern with a star at one end means.
fn fits(namespace: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => namespace.ends_with(suffix),
        (None, Some(prefix)) => namespace.starts_with(prefix),
        (None, None) => namespace.eq_ignore_ascii_case(pattern),
    }
}

pub(super) fn blocked_cidrs(objects: &Objects, messages: &mut Vec<Message>) {
    let names: Vec<String> = objects.of_kind("RequestAuthentication").map(full_name).collect();
    if names.is_empty() {
        return;
    }
    for deployment in objects
        .of_kind("Deployment")
        .filter(|d| labels(d).get("app").is_some_and(|app| app == "istiod"))
    {
        let is_set = list(deployment, "/spec/template/spec/containers")
            .flat_map(|container| list(container, "/env"))
            .any(|env| env["name"] == BLOCKED_CIDRS && env["value"].as_str().is_some_and(|value| !value.is_empty()));
        if !is_set {
            let mut shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            if names.len() > NAMED {
                shown.push_str(&format!(", and {} more", names.len() - NAMED));
            }
            messages.push(Message::about(
                JWKS_FETCH_UNRESTRICTED,
                deployment,
                format!(
                    "{BLOCKED_CIDRS} is not configured but {} RequestAuthentication resource(s) exist ({shown}). Consider \
                     configuring it to restrict JWKS URI fetches to trusted networks.",
                    names.len()
                ),
            ));
        }
    }
}
