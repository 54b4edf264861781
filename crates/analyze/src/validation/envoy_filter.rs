//! EnvoyFilters: that patches say where they go, and what they put there.

use serde_json::Value;

use super::field::{Problems, check_regex};

/// Longest expression for versions of proxies; a longer one is not looked at.
const LONGEST_VERSION: usize = 1024;
/// What a filter is in, so that a match names a listener.
const OF_LISTENER: [&str; 4] = ["LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"];
const OF_ROUTE: [&str; 3] = ["ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"];
/// Filters that have filters in them.
const CONNECTION_MANAGERS: [&str; 2] = [
    "envoy.filters.network.http_connection_manager",
    "envoy.http_connection_manager",
];

pub(super) fn check(spec: &Value, problems: &mut Problems) {
    problems.warn(
        "spec",
        "EnvoyFilter exposes internal implementation details that may change at any time. Prefer other APIs if possible, and \
         exercise extreme caution, especially around upgrades.",
    );
    let patches = spec["configPatches"].as_array().into_iter().flatten();
    for (index, patch) in patches.enumerate() {
        check_patch(&format!("spec.configPatches[{index}]"), patch, problems);
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn check_patch(field: &str, patch: &Value, problems: &mut Problems) {
    let matched = &patch["match"];
    if text(matched, "context") == "WAYPOINT" {
        return;
    }
    let (target, change) = (text(patch, "applyTo"), &patch["patch"]);
    let operation = text(change, "operation");
    if matches!(target, "" | "INVALID") {
        return problems.add(format!("{field}.applyTo"), "is required");
    }
    if change.is_null() {
        return problems.add(format!("{field}.patch"), "is required");
    }
    if matches!(operation, "" | "INVALID") {
        return problems.add(format!("{field}.patch.operation"), "is required");
    }
    if operation != "REMOVE" && change["value"].is_null() {
        return problems.add(
            format!("{field}.patch.value"),
            "is required for all operations but REMOVE",
        );
    }
    let version = text(&matched["proxy"], "proxyVersion");
    if version.len() > LONGEST_VERSION {
        problems.warn(
            format!("{field}.match.proxy.proxyVersion"),
            format!("exceeds {LONGEST_VERSION} characters and will be ignored"),
        );
    } else {
        check_regex(problems, &format!("{field}.match.proxy.proxyVersion"), version);
    }
    check_match(&format!("{field}.match"), target, matched, problems);
}

fn check_match(field: &str, target: &str, matched: &Value, problems: &mut Problems) {
    let wanted = match target {
        target if OF_LISTENER.contains(&target) => "listener",
        target if OF_ROUTE.contains(&target) => "routeConfiguration",
        "CLUSTER" => "cluster",
        _ => return,
    };
    let others = ["listener", "routeConfiguration", "cluster"];
    let other = others
        .iter()
        .find(|other| **other != wanted && !matched[**other].is_null());
    if let Some(other) = other {
        return problems.add(
            format!("{field}.{other}"),
            format!("{target} is matched by {wanted}, not by {other}"),
        );
    }
    if wanted == "listener" {
        check_filter(field, target, &matched["listener"]["filterChain"]["filter"], problems);
    }
}

fn check_filter(field: &str, target: &str, filter: &Value, problems: &mut Problems) {
    if filter.is_null() {
        return;
    }
    let field = format!("{field}.listener.filterChain.filter");
    if matches!(target, "LISTENER" | "FILTER_CHAIN") {
        problems.warn(&field, format!("has no effect when used with {target}"));
    }
    let name = text(filter, "name");
    problems.require(!name.is_empty(), format!("{field}.name"), "is required");
    let inner = &filter["subFilter"];
    if inner.is_null() {
        return;
    }
    let field = format!("{field}.subFilter");
    problems.require(
        target == "HTTP_FILTER",
        &field,
        "can be used with applyTo HTTP_FILTER only",
    );
    problems.require(
        CONNECTION_MANAGERS.contains(&name),
        &field,
        format!("is in the filter {} only", CONNECTION_MANAGERS[0]),
    );
    problems.require(!text(inner, "name").is_empty(), format!("{field}.name"), "is required");
}
