//! Patches of Envoy's configuration that will not do what they look like.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::{list, text};
use crate::message::{
    ENVOY_FILTER_ADD, ENVOY_FILTER_RELATIVE, ENVOY_FILTER_RELATIVE_VERSION, ENVOY_FILTER_REMOVE, ENVOY_FILTER_REPLACE,
    Message,
};
use crate::objects::Objects;

/// Where additions and removals are ignored.
const WHOLE: [&str; 2] = ["ROUTE_CONFIGURATION", "HTTP_ROUTE"];
/// Where replacing means something.
const REPLACEABLE: [&str; 3] = ["NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST"];

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    // Names of filters that earlier patches had for some versions of the proxy only.
    let mut versioned: BTreeSet<String> = BTreeSet::new();
    for filter in objects.of_kind("EnvoyFilter") {
        let has_priority = filter.pointer("/spec/priority").and_then(Value::as_i64).unwrap_or(0) != 0;
        let mut found = BTreeSet::new();
        for patch in list(filter, "/spec/configPatches") {
            if patch.get("patch").is_none() {
                break;
            }
            let name = patched(patch);
            let (operation, target) = (text(patch, "/patch/operation"), text(patch, "/applyTo"));
            let relative = || {
                if versioned.contains(&name) {
                    (
                        ENVOY_FILTER_RELATIVE_VERSION,
                        "This EnvoyFilter does not have a priority and has a relative patch operation \
                         (NSTERT_BEFORE/AFTER, REPLACE, MERGE, DELETE) and proxyVersion set which can cause the \
                         EnvoyFilter not to be applied during an upgrade. Using the INSERT_FIRST or ADD option or setting \
                         the priority may help in ensuring the EnvoyFilter is applied correctly.",
                    )
                } else {
                    (
                        ENVOY_FILTER_RELATIVE,
                        "This EnvoyFilter does not have a priority and has a relative patch operation set which can cause \
                         the EnvoyFilter not to be applied. Using the INSERT_FIRST of ADD option or setting the priority \
                         may help in ensuring the EnvoyFilter is applied correctly.",
                    )
                }
            };
            let finding = match operation {
                "ADD" if WHOLE.contains(&target) => Some((
                    ENVOY_FILTER_ADD,
                    "The ADD operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.",
                )),
                "REMOVE" if WHOLE.contains(&target) => Some((
                    ENVOY_FILTER_REMOVE,
                    "The REMOVE operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.",
                )),
                "REPLACE" if !REPLACEABLE.contains(&target) => Some((
                    ENVOY_FILTER_REPLACE,
                    "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.",
                )),
                "REMOVE" | "REPLACE" | "INSERT_BEFORE" | "INSERT_AFTER" if !has_priority => Some(relative()),
                _ => None,
            };
            if let Some((code, text)) = finding {
                found.insert((code, text));
            }
            if !text(patch, "/match/proxy/proxyVersion").is_empty() {
                versioned.insert(name);
            }
        }
        messages.extend(found.into_iter().map(|(code, text)| Message::about(code, filter, text)));
    }
}

/// Name of what a patch puts in, else of the filter that it looks for.
fn patched(patch: &Value) -> String {
    let Some(value) = patch.pointer("/patch/value").and_then(Value::as_object) else {
        return String::new();
    };
    match value.get("name") {
        // Told apart from a name that is only looked for.
        Some(name) => format!("value {name}"),
        None => text(patch, "/match/listener/filterChain/filter/name").to_owned(),
    }
}
