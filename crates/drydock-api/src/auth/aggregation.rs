//! Aggregated cluster roles: the rules of every role that the selectors match.

use crate::label_selector;
use serde_json::{Value, json};

/// The rules that `role` should have, if it has an aggregation rule and they differ from what it has.
/// `roles` are all cluster roles in order of their names.
pub fn aggregated<'a>(role: &Value, roles: impl Iterator<Item = &'a Value> + Clone) -> Option<Value> {
    let selectors = role.get("aggregationRule")?.get("clusterRoleSelectors")?.as_array()?;
    let name = &role["metadata"]["name"];
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        for other in roles.clone() {
            if &other["metadata"]["name"] == name || !label_selector::matches(selector, &other["metadata"]["labels"]) {
                continue;
            }
            for rule in other["rules"].as_array().into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    let rules = json!(rules);
    (role.get("rules") != Some(&rules)).then_some(rules)
}
