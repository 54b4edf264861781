//! What an object is for: labels of workloads, or resources that it names.

use serde_json::Value;

use super::field::Problems;

pub(super) fn check(spec: &Value, problems: &mut Problems) {
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
    }
    let has = |field: &str| !spec[field].is_null();
    let ways = ["selector", "targetRef", "targetRefs"];
    problems.require(
        ways.iter().filter(|way| has(way)).count() < 2,
        "spec",
        "only one of targetRefs or selector can be set",
    );
}
