//! The status of policies: their expressions checked against the kinds they are about.

use crate::{
    Core,
    expression::{self, check, check::Known},
    follow::Follower,
    meta,
    objects::text,
};
use drydock_store::{Expect, Stored};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Kinds that are looked at for one policy at most.
const MAX_KINDS: usize = 10;

/// Keeps the status of policies up to date for as long as the server runs.
pub async fn run(core: Arc<Core>) {
    let Some(mut policies) = Follower::new(&core, "admissionregistration.k8s.io", "validatingadmissionpolicies") else {
        return;
    };
    loop {
        let key = policies.next().await;
        if let Some(stored) = core.store.get(&key) {
            update(&core, &stored).await;
        }
    }
}

async fn update(core: &Core, stored: &Stored) {
    let policy = stored.value.as_ref();
    let generation = meta::generation(policy);
    if policy["status"]["observedGeneration"].as_i64() == Some(generation) {
        return;
    }
    let warnings = warnings(core, policy);
    let mut next = policy.clone();
    next["status"] = json!({ "observedGeneration": generation, "typeChecking": {} });
    if !warnings.is_empty() {
        next["status"]["typeChecking"]["expressionWarnings"] = json!(warnings);
    }
    if let Err(error) = core
        .store
        .put(&stored.key, Expect::Revision(stored.revision), next)
        .await
    {
        // Somebody wrote in between; their event brings us here again.
        tracing::debug!(key = stored.key, %error, "status of a policy not written");
    }
}

fn warnings(core: &Core, policy: &Value) -> Vec<Value> {
    let kinds = kinds(core, &policy["spec"]["matchConstraints"]["resourceRules"]);
    let mut out = Vec::new();
    for (at, validation) in policy["spec"]["validations"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        for key in ["expression", "messageExpression"] {
            let Ok(compiled) = expression::cached(text(validation, &[key])) else {
                continue;
            };
            let mut lines = String::new();
            for resource in &kinds {
                let Some(schema) = resource.strategy.schema() else {
                    continue;
                };
                let mut variables: BTreeMap<String, Known<'_>> =
                    ["request", "params", "namespaceObject", "authorizer", "variables"]
                        .iter()
                        .map(|v| ((*v).to_owned(), Known::Any))
                        .collect();
                variables.insert("object".into(), Known::Node(schema));
                variables.insert("oldObject".into(), Known::Node(schema));
                if let Some(problem) = check::problem(&compiled, &variables) {
                    let (group, version, kind) = (&resource.group, &resource.version, &resource.kind);
                    lines.push_str(&format!("{group}/{version}, Kind={kind}: {problem}\n"));
                }
            }
            if !lines.is_empty() {
                out.push(json!({ "fieldRef": format!("spec.validations[{at}].{key}"), "warning": lines }));
            }
        }
    }
    out
}

/// The kinds that rules without wildcards name.
fn kinds(core: &Core, rules: &Value) -> Vec<Arc<crate::resource::ResourceInfo>> {
    let words = |rule: &Value, key: &str| -> Vec<String> {
        rule[key]
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let mut out = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        for group in words(rule, "apiGroups") {
            for version in words(rule, "apiVersions") {
                for plural in words(rule, "resources") {
                    if out.len() < MAX_KINDS {
                        out.extend(core.registry.get(&group, &version, &plural));
                    }
                }
            }
        }
    }
    out
}
