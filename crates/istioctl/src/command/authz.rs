//! `istioctl experimental authz check`: AuthorizationPolicies that a proxy enforces.

use std::collections::{BTreeMap, BTreeSet};

use clap::Subcommand;
use serde_json::Value;

use super::proxy_config::dump::{list, part, text};
use super::proxy_config::{self, SourceFlags};
use crate::cli::Global;
use crate::failure::Failure;
use crate::out;
use crate::table::{columns, row};

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the AuthorizationPolicies that are in effect at a proxy.
    Check(SourceFlags),
}

/// Runs it.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let Command::Check(flags) = command;
    out::put(&report(global, &flags).await?);
    Ok(())
}

/// The policies that a proxy enforces.
pub async fn report(global: &Global, flags: &SourceFlags) -> Result<String, Failure> {
    let dump = proxy_config::dump(global, flags)
        .await
        .map_err(|failure| match &flags.file {
            Some(file) => Failure::new(format!(
                "failed to get config dump from file {file}: {}",
                failure.message()
            )),
            None => failure,
        });
    table(&dump?)
}

/// Name for a filter that has no rules, which therefore matches nothing.
const NOTHING: &str = "_anonymous_match_nothing_";
/// Mark of policies whose decision an external service makes.
const EXTERNAL: &str = "istio-ext-authz-";

/// Rules by action and policy.
type Found = BTreeMap<(&'static str, String), BTreeSet<String>>;

/// Columns of the policies in a configuration dump.
fn table(dump: &Value) -> Result<String, Failure> {
    let listeners = part(dump, "ListenersConfigDump")?;
    let mut found = Found::new();
    for listener in list(listeners, "/dynamic_listeners") {
        let listener = &listener["active_state"]["listener"];
        let default = listener.get("default_filter_chain").into_iter();
        for chain in list(listener, "/filter_chains").chain(default) {
            for filter in list(chain, "/filters") {
                collect(filter, &mut found);
                for filter in list(filter, "/typed_config/http_filters") {
                    collect(filter, &mut found);
                }
            }
        }
    }
    let mut rows = vec![row(["ACTION", "AuthorizationPolicy", "RULES"])];
    // In the order in which a proxy asks them, denials first but for what an external service decides.
    let mut policies: Vec<_> = found.into_iter().collect();
    policies.sort_by_key(|((action, name), _)| (ORDER.iter().position(|other| other == action), name.clone()));
    for ((action, name), rules) in &policies {
        rows.push(row([action, name, &rules.len().to_string()]));
    }
    Ok(columns(&rows, 3))
}

const ORDER: [&str; 4] = ["DENY", "ALLOW", "LOG", "CUSTOM"];

fn collect(filter: &Value, found: &mut Found) {
    let config = &filter["typed_config"];
    if !text(config, "/@type").ends_with(".rbac.v3.RBAC") {
        return;
    }
    if let Some(rules) = config.get("rules") {
        let action = match text(rules, "/action") {
            "DENY" => "DENY",
            "LOG" => "LOG",
            _ => "ALLOW",
        };
        let policies = rules["policies"].as_object();
        if policies.is_none_or(serde_json::Map::is_empty) {
            found
                .entry((action, NOTHING.to_owned()))
                .or_default()
                .insert(String::new());
        }
        for name in policies.into_iter().flatten().map(|(name, _)| name) {
            add(action, name, found);
        }
    }
    // Shadow rules are dry runs, or the question whether an external service is to be asked.
    for (name, _) in config["shadow_rules"]["policies"].as_object().into_iter().flatten() {
        if let Some(name) = name.strip_prefix(EXTERNAL) {
            add("CUSTOM", name, found);
        }
    }
}

/// `ns[default]-policy[httpbin]-rule[0]`.
fn add(action: &'static str, name: &str, found: &mut Found) {
    let between = |key: &str| {
        let rest = name.split_once(&format!("{key}["))?.1;
        Some(rest.split_once(']')?.0)
    };
    let (policy, rule) = match (between("ns"), between("-policy"), between("-rule")) {
        (Some(namespace), Some(policy), Some(rule)) => (format!("{policy}.{namespace}"), rule),
        _ => (name.to_owned(), ""),
    };
    found.entry((action, policy)).or_default().insert(rule.to_owned());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_counted_once_however_many_chains_have_them() {
        let rbac = |rules: Value| json!({"typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC", "rules": rules}});
        let policies = json!({"ns[app]-policy[web]-rule[0]": {}, "ns[app]-policy[web]-rule[1]": {}});
        let chain = json!({"filters": [rbac(json!({"action": "DENY", "policies": policies})), rbac(json!({}))]});
        let dump = json!({"configs": [{"@type": "x/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [
            {"active_state": {"listener": {"filter_chains": [chain, chain]}}}]}]});
        assert_eq!(
            table(&dump).unwrap(),
            "ACTION   AuthorizationPolicy         RULES\n\
             DENY     web.app                     2\n\
             ALLOW    _anonymous_match_nothing_   1\n"
        );
    }
}
