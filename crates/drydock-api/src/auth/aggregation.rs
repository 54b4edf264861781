//! Aggregated cluster roles: the rules of every role that the selectors match.

use super::rbac::GROUP;
use crate::{Core, follow::Follower, label_selector};
use drydock_store::{Expect, Stored};
use serde_json::{Value, json};
use std::sync::Arc;

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
    let empty = rules.as_array().is_some_and(Vec::is_empty) && role.get("rules").is_none_or(Value::is_null);
    (!empty && role.get("rules") != Some(&rules)).then_some(rules)
}

/// Fills aggregated roles whenever a cluster role changes, for as long as the server runs.
pub async fn run(core: Arc<Core>) {
    let Some(resource) = core.registry.any_version(GROUP, "clusterroles") else {
        return;
    };
    let Some(mut roles) = Follower::new(&core, GROUP, "clusterroles") else {
        return;
    };
    loop {
        roles.next().await;
        fill(&core, &core.store.list(&resource.prefix("")).items).await;
    }
}

/// Writes every role that is not as it should be.
async fn fill(core: &Core, roles: &[Stored]) {
    for role in roles {
        let Some(rules) = aggregated(&role.value, roles.iter().map(|r| r.value.as_ref())) else {
            continue;
        };
        let mut next = role.value.as_ref().clone();
        next["rules"] = rules;
        if let Err(error) = core.store.put(&role.key, Expect::Revision(role.revision), next).await {
            tracing::debug!(key = role.key, %error, "aggregated role not written, will be tried at the next change");
        }
    }
}
