//! Label selectors in object form (`matchLabels`, `matchExpressions`).

use serde_json::Value;

/// Whether `labels` (an object or null) satisfy `selector`; an absent or empty selector matches everything.
#[must_use]
pub fn matches(selector: &Value, labels: &Value) -> bool {
    let exact = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .is_none_or(|wanted| wanted.iter().all(|(k, v)| labels.get(k) == Some(v)));
    exact
        && selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .is_none_or(|all| all.iter().all(|e| expression(e, labels)))
}

fn expression(expression: &Value, labels: &Value) -> bool {
    let have = labels.get(expression["key"].as_str().unwrap_or_default());
    let listed = || have.is_some_and(|v| expression["values"].as_array().is_some_and(|values| values.contains(v)));
    match expression["operator"].as_str() {
        Some("In") => listed(),
        Some("NotIn") => !listed(),
        Some("Exists") => have.is_some(),
        Some("DoesNotExist") => have.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_select() {
        let labels = json!({"a": "1", "istio.io/rev": "canary"});
        let check = |selector: Value, expected: bool| assert_eq!(matches(&selector, &labels), expected, "{selector}");
        check(Value::Null, true);
        check(json!({"matchLabels": {"a": "1"}}), true);
        check(json!({"matchLabels": {"a": "2"}}), false);
        check(
            json!({"matchExpressions": [{"key": "istio.io/rev", "operator": "In", "values": ["x", "canary"]}]}),
            true,
        );
        check(
            json!({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["x"]}]}),
            true,
        );
        check(
            json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}),
            false,
        );
        check(
            json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}),
            false,
        );
    }
}
