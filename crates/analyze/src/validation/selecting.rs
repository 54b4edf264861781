//! What an object is for: labels of workloads, or resources that it names.

use serde_json::Value;

use super::field::Problems;

/// What a policy may be attached to.
const TARGETS: [(&str, &str); 5] = [
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

pub(super) fn check(kind: &str, spec: &Value, problems: &mut Problems) {
    for (field, labels) in [
        ("spec.selector.matchLabels", &spec["selector"]["matchLabels"]),
        (
            "spec.workloadSelector.matchLabels",
            &spec["workloadSelector"]["matchLabels"],
        ),
    ] {
        for (key, value) in labels.as_object().into_iter().flatten() {
            problems.require(!key.contains('*'), field, "wildcard not allowed in label key match");
            problems.require(!key.is_empty(), field, "key must not be empty");
            let wildcard = value.as_str().is_some_and(|value| value.contains('*'));
            problems.require(
                !wildcard,
                format!("{field}.{key}"),
                "wildcard not allowed in label value match",
            );
        }
    }
    let selector = &spec["selector"];
    let selects = |labels: &Value| labels.as_object().is_some_and(|labels| !labels.is_empty());
    // That of a gateway is a map of labels itself.
    let of_rule = &spec["workloadSelector"];
    if kind == "DestinationRule" && of_rule.is_object() && !selects(&of_rule["matchLabels"]) {
        problems.warn(
            "spec.workloadSelector",
            "has no labels, so it is for all workloads of the namespace",
        );
    }
    if kind != "Gateway" && selector.is_object() && !selects(&selector["matchLabels"]) {
        problems.warn(
            "spec.selector",
            "has no labels, so it is for all workloads of the namespace",
        );
    }
    for (key, value) in spec["workloadSelector"]["labels"].as_object().into_iter().flatten() {
        let field = format!("spec.workloadSelector.labels.{key}");
        let wildcard = key.contains('*') || value.as_str().is_some_and(|value| value.contains('*'));
        problems.require(!wildcard, &field, "wildcard is not supported in selector");
        problems.require(!key.is_empty(), &field, "key must not be empty");
    }
    let many = spec["targetRefs"].as_array().into_iter().flatten();
    let named = many
        .enumerate()
        .map(|(index, target)| (format!("spec.targetRefs[{index}]"), target))
        .chain([("spec.targetRef".to_owned(), &spec["targetRef"])]);
    for (field, target) in named {
        let namespace = target["namespace"].as_str().unwrap_or_default();
        problems.require(
            namespace.is_empty(),
            format!("{field}.namespace"),
            "cross namespace referencing is not currently supported",
        );
        if target.is_null() || kind == "EnvoyFilter" {
            continue;
        }
        let text = |field: &str| target[field].as_str().unwrap_or_default();
        problems.require(!text("name").is_empty(), format!("{field}.name"), "a name is required");
        problems.require(
            TARGETS.contains(&(text("group"), text("kind"))),
            &field,
            format!(
                "{}/{} is nothing that it can be attached to; use Service, ServiceEntry, Gateway or GatewayClass",
                text("group"),
                text("kind")
            ),
        );
    }
    let has = |field: &str| !spec[field].is_null();
    let ways = ["selector", "targetRef", "targetRefs"];
    problems.require(
        ways.iter().filter(|way| has(way)).count() < 2,
        "spec",
        "only one of targetRefs or selector can be set",
    );
}
