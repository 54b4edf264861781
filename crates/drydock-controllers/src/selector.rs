//! Label selectors: what `matchLabels` and `matchExpressions` mean.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Whether `selector` selects `labels`. An empty selector selects everything; an unknown operator selects nothing.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let get = |key: &str| labels.and_then(|labels| labels.get(key));
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|term| {
            let given = get(&term.key);
            let listed = || term.values.iter().flatten().any(|value| Some(value) == given);
            match term.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => given.is_some(),
                "DoesNotExist" => given.is_none(),
                _ => false,
            }
        })
}

/// Whether a plain map selector (a Service's) selects `labels`. An empty one selects nothing.
#[must_use]
pub fn map_matches(selector: Option<&Labels>, labels: Option<&Labels>) -> bool {
    selector.is_some_and(|selector| {
        !selector.is_empty()
            && selector
                .iter()
                .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    })
}

/// Whether the selector has no term at all.
#[must_use]
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(selector: serde_json::Value, labels: serde_json::Value, expected: bool) {
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        let labels: Labels = serde_json::from_value(labels).unwrap();
        assert_eq!(
            matches(&selector, Some(&labels)),
            expected,
            "{selector:?} on {labels:?}"
        );
    }

    #[test]
    fn operators() {
        let labels = json!({"app": "web", "tier": "front"});
        check(json!({}), labels.clone(), true);
        check(json!({"matchLabels": {"app": "web"}}), labels.clone(), true);
        check(json!({"matchLabels": {"app": "db"}}), labels.clone(), false);
        let expression = |operator: &str, key: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(expression("In", "app", &["db", "web"]), labels.clone(), true);
        check(expression("In", "zone", &["a"]), labels.clone(), false);
        check(expression("NotIn", "app", &["web"]), labels.clone(), false);
        check(expression("NotIn", "zone", &["a"]), labels.clone(), true);
        check(expression("Exists", "tier", &[]), labels.clone(), true);
        check(expression("DoesNotExist", "tier", &[]), labels.clone(), false);
        check(expression("Near", "tier", &[]), labels, false);
    }

    #[test]
    fn service_without_selector_selects_nothing() {
        let labels = Labels::from([("app".into(), "web".into())]);
        assert!(!map_matches(None, Some(&labels)));
        assert!(!map_matches(Some(&Labels::new()), Some(&labels)));
        assert!(map_matches(Some(&labels), Some(&labels)));
    }
}
