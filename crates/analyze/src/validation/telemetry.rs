//! Telemetry: metrics, traces, logs.

use serde_json::Value;

use super::field::Problems;

pub(super) fn check(spec: &Value, problems: &mut Problems) {
    for (index, metrics) in items(&spec["metrics"]).enumerate() {
        let field = format!("spec.metrics[{index}]");
        check_providers(&field, metrics, problems);
        for (at, overridden) in items(&metrics["overrides"]).enumerate() {
            for (tag, change) in overridden["tagOverrides"].as_object().into_iter().flatten() {
                check_tag(
                    &format!("{field}.overrides[{at}].tagOverrides[{tag}].value"),
                    change,
                    problems,
                );
            }
            problems.require(
                overridden["match"]["customMetric"] != "",
                format!("{field}.overrides[{at}].match.customMetric"),
                "must not be empty",
            );
        }
    }
    check_tracing(&spec["tracing"], problems);
    for (index, logging) in items(&spec["accessLogging"]).enumerate() {
        check_providers(&format!("spec.accessLogging[{index}]"), logging, problems);
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn check_providers(field: &str, of: &Value, problems: &mut Problems) {
    let named = |provider: &Value| provider["name"].as_str().is_some_and(|name| !name.is_empty());
    problems.require(
        items(&of["providers"]).all(named),
        format!("{field}.providers"),
        "a provider needs a name",
    );
}

/// A tag has a value if it is set, and none if it is removed. To set it is what is meant without a word.
fn check_tag(field: &str, change: &Value, problems: &mut Problems) {
    let given = change["value"].as_str().is_some_and(|value| !value.is_empty());
    match change["operation"].as_str() {
        Some("REMOVE") => problems.require(!given, field, "value must not be set when operation is REMOVE"),
        None | Some("UPSERT") => problems.require(given, field, "value must be set when operation is UPSERT"),
        Some(_) => {}
    }
}

fn check_tracing(tracing: &Value, problems: &mut Problems) {
    if items(tracing).count() > 1 {
        problems.warn("spec.tracing", "multiple tracing is not currently supported");
    }
    for (index, trace) in items(tracing).enumerate() {
        let field = format!("spec.tracing[{index}]");
        if items(&trace["providers"]).count() > 1 {
            problems.warn(
                format!("{field}.providers"),
                "multiple providers is not currently supported",
            );
        }
        check_providers(&field, trace, problems);
        let share = trace["randomSamplingPercentage"].as_f64();
        problems.require(
            share.is_none_or(|share| (0.0..=100.0).contains(&share)),
            format!("{field}.randomSamplingPercentage"),
            "must be between 0 and 100",
        );
        for (tag, value) in trace["customTags"].as_object().into_iter().flatten() {
            let field = format!("{field}.customTags[{tag}]");
            problems.require(!tag.is_empty(), &field, "a tag needs a name");
            for (way, inner) in [("literal", "value"), ("header", "name"), ("environment", "name")] {
                let given = value[way][inner].as_str().is_some_and(|text| !text.is_empty());
                problems.require(
                    value[way].is_null() || given,
                    format!("{field}.{way}.{inner}"),
                    "must not be empty",
                );
            }
        }
    }
}
