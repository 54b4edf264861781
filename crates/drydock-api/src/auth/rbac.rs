//! Role-based access control: does a user hold a permission, and which rules does it hold.

use super::{
    attributes::{Attributes, Target},
    node_scope,
    user::{MASTERS, User},
};
use crate::objects::{Objects, text};
use serde_json::{Value, json};

/// API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// One policy rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// API groups, `*` for all.
    pub groups: Vec<String>,
    /// `resource`, `resource/subresource`, `*`, `*/subresource`.
    pub resources: Vec<String>,
    /// Object names; empty for all.
    pub names: Vec<String>,
    /// URL paths, `*` at the end matches the rest.
    pub paths: Vec<String>,
}

impl Rule {
    /// Reads a `rules[]` element.
    #[must_use]
    pub fn from_json(value: &Value) -> Self {
        let list = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_array)
                .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                .unwrap_or_default()
        };
        Rule {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            paths: list("nonResourceURLs"),
        }
    }

    /// The `rules[]` element; empty lists are left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = json!({ "verbs": self.verbs });
        for (key, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ] {
            if !list.is_empty() {
                out[key] = json!(list);
            }
        }
        out
    }

    /// Whether the rule allows `attributes`.
    #[must_use]
    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !has(&self.verbs, &attributes.verb) {
            return false;
        }
        match &attributes.target {
            Target::Path(path) => self.paths.iter().any(|p| path_matches(p, path)),
            Target::Resource {
                group,
                resource,
                subresource,
                name,
                ..
            } => {
                has(&self.groups, group)
                    && self
                        .resources
                        .iter()
                        .any(|r| resource_matches(r, resource, subresource))
                    && (self.names.is_empty() || self.names.iter().any(|n| n == name))
            }
        }
    }

    /// The rule as one-verb, one-target rules, so that coverage can be checked piece by piece.
    fn pieces(&self) -> Vec<Rule> {
        let mut out = Vec::new();
        let one = |s: &String| vec![s.clone()];
        for verb in &self.verbs {
            for path in &self.paths {
                out.push(Rule {
                    verbs: one(verb),
                    paths: one(path),
                    ..Rule::default()
                });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let base = Rule {
                        verbs: one(verb),
                        groups: one(group),
                        resources: one(resource),
                        ..Rule::default()
                    };
                    if self.names.is_empty() {
                        out.push(base);
                    } else {
                        out.extend(self.names.iter().map(|n| Rule {
                            names: one(n),
                            ..base.clone()
                        }));
                    }
                }
            }
        }
        out
    }

    /// Whether this rule grants everything that the one-piece rule `piece` grants.
    fn covers(&self, piece: &Rule) -> bool {
        let in_list = |have: &[String], want: &[String]| want.iter().all(|w| has(have, w));
        let resources = piece.resources.iter().all(|r| {
            has(&self.resources, r)
                || r.split_once('/')
                    .is_some_and(|(_, sub)| self.resources.iter().any(|x| *x == format!("*/{sub}")))
        });
        let names = self.names.is_empty() || (!piece.names.is_empty() && in_list(&self.names, &piece.names));
        let paths = piece
            .paths
            .iter()
            .all(|p| self.paths.iter().any(|x| path_matches(x, p)));
        in_list(&self.verbs, &piece.verbs) && in_list(&self.groups, &piece.groups) && resources && names && paths
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ]
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(key, list)| {
            format!(
                "{key}:[{}]",
                list.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(" ")
            )
        })
        .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|x| x == "*" || x == item)
}

fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|p| path.starts_with(p))
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        None => pattern == "*" || (subresource.is_empty() && pattern == resource),
        Some(("*", sub)) => sub == subresource && !subresource.is_empty(),
        Some((r, sub)) => r == resource && sub == subresource,
    }
}

/// The answer of an authorizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Why, as reviews print it; often empty.
    pub reason: String,
}

/// Authorizes by group `system:masters`, then node identity, then roles and bindings.
#[must_use]
pub fn authorize(objects: &dyn Objects, user: &User, attributes: &Attributes) -> Decision {
    if user.in_group(MASTERS) {
        return Decision {
            allowed: true,
            reason: String::new(),
        };
    }
    if user.in_group("system:nodes")
        && let Some(node) = node_scope::node_of(&user.name)
        && node_scope::allows(objects, node, attributes)
        && objects
            .get(GROUP, "clusterroles", "", "system:node")
            .is_some_and(|role| rules(&role).iter().any(|r| r.allows(attributes)))
    {
        return Decision {
            allowed: true,
            reason: String::new(),
        };
    }
    let mut problems = Vec::new();
    let namespace = match &attributes.target {
        Target::Resource { namespace, .. } => namespace.as_str(),
        Target::Path(_) => "",
    };
    for grant in grants(objects, user, namespace) {
        match grant.rules {
            Err(problem) => problems.push(problem),
            Ok(rules) => {
                if rules.iter().any(|r| r.allows(attributes)) {
                    return Decision {
                        allowed: true,
                        reason: grant.reason,
                    };
                }
            }
        }
    }
    let reason = match problems.as_slice() {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    };
    Decision { allowed: false, reason }
}

struct Grant {
    rules: Result<Vec<Rule>, String>,
    reason: String,
}

/// Every binding that names the user: cluster-wide ones, then those of `namespace`.
fn grants(objects: &dyn Objects, user: &User, namespace: &str) -> Vec<Grant> {
    let mut out = Vec::new();
    for binding in objects.list(GROUP, "clusterrolebindings", "") {
        if let Some(subject) = subject_of(&binding, user, "") {
            let name = text(&binding, &["metadata", "name"]);
            out.push(grant(
                objects,
                &binding,
                "",
                format!("ClusterRoleBinding {name:?}"),
                &subject,
            ));
        }
    }
    if !namespace.is_empty() {
        for binding in objects.list(GROUP, "rolebindings", namespace) {
            if let Some(subject) = subject_of(&binding, user, namespace) {
                let name = text(&binding, &["metadata", "name"]);
                let what = format!("RoleBinding {:?}", format!("{name}/{namespace}"));
                out.push(grant(objects, &binding, namespace, what, &subject));
            }
        }
    }
    out
}

fn grant(objects: &dyn Objects, binding: &Value, namespace: &str, what: String, subject: &str) -> Grant {
    let (kind, name) = (text(binding, &["roleRef", "kind"]), text(binding, &["roleRef", "name"]));
    Grant {
        rules: role_rules(objects, kind, name, namespace),
        reason: format!("RBAC: allowed by {what} of {kind} {name:?} to {subject}"),
    }
}

/// The rules of a referenced role, or the text `role… "x" not found`.
///
/// # Errors
/// The role does not exist.
pub fn role_rules(objects: &dyn Objects, kind: &str, name: &str, namespace: &str) -> Result<Vec<Rule>, String> {
    let (resource, place) = if kind == "Role" {
        ("roles", namespace)
    } else {
        ("clusterroles", "")
    };
    match objects.get(GROUP, resource, place, name) {
        Some(role) => Ok(rules(&role)),
        None => Err(format!("{}.{GROUP} {name:?} not found", resource.trim_end_matches('s'))),
    }
}

/// The rules of a role object.
#[must_use]
pub fn rules(role: &Value) -> Vec<Rule> {
    role.get("rules")
        .and_then(Value::as_array)
        .map(|a| a.iter().map(Rule::from_json).collect())
        .unwrap_or_default()
}

fn subject_of(binding: &Value, user: &User, namespace: &str) -> Option<String> {
    let subjects = binding.get("subjects")?.as_array()?;
    subjects.iter().find_map(|s| {
        let name = text(s, &["name"]);
        match text(s, &["kind"]) {
            "User" => (user.name == name).then(|| format!("User {name:?}")),
            "Group" => user.in_group(name).then(|| format!("Group {name:?}")),
            "ServiceAccount" => {
                let place = match text(s, &["namespace"]) {
                    "" => namespace,
                    own => own,
                };
                (user.service_account() == Some((place, name)))
                    .then(|| format!("ServiceAccount {:?}", format!("{name}/{place}")))
            }
            _ => None,
        }
    })
}

/// All rules a user holds in `namespace`, in binding order.
#[must_use]
pub fn rules_for(objects: &dyn Objects, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
    let (mut held, mut problems) = (Vec::new(), Vec::new());
    if user.in_group(MASTERS) {
        held.push(Rule {
            verbs: all(),
            groups: all(),
            resources: all(),
            ..Rule::default()
        });
        held.push(Rule {
            verbs: all(),
            paths: all(),
            ..Rule::default()
        });
    }
    for grant in grants(objects, user, namespace) {
        match grant.rules {
            Ok(rules) => held.extend(rules),
            Err(problem) => problems.push(problem),
        }
    }
    (held, problems)
}

fn all() -> Vec<String> {
    vec!["*".into()]
}

/// Which of `wanted` the user does not hold itself: what it may not hand on. Empty when nothing is missing.
#[must_use]
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let missing: Vec<Rule> = wanted
        .iter()
        .flat_map(Rule::pieces)
        .filter(|piece| !held.iter().any(|h| h.covers(piece)))
        .collect();
    compact(missing)
}

/// Joins the verbs of rules that differ in nothing else, as the server prints them.
fn compact(pieces: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for piece in pieces {
        let same = out.iter_mut().find(|r| {
            r.groups == piece.groups
                && r.resources == piece.resources
                && r.names == piece.names
                && r.paths == piece.paths
        });
        match same {
            Some(rule) => rule.verbs.extend(
                piece
                    .verbs
                    .into_iter()
                    .filter(|v| !rule.verbs.contains(v))
                    .collect::<Vec<_>>(),
            ),
            None => out.push(piece),
        }
    }
    out.sort_by_key(ToString::to_string);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::fixture::Fixed;

    fn rule(verbs: &str, groups: &str, resources: &str) -> Rule {
        let list = |s: &str| s.split(',').map(str::to_owned).collect();
        Rule {
            verbs: list(verbs),
            groups: list(groups),
            resources: list(resources),
            ..Rule::default()
        }
    }

    fn check(rule: &Rule, verb: &str, group: &str, resource: &str, allowed: bool) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = Attributes {
            verb: verb.into(),
            target: Target::Resource {
                group: group.into(),
                version: "v1".into(),
                resource: resource.into(),
                subresource: subresource.into(),
                namespace: "ns".into(),
                name: "x".into(),
            },
        };
        assert_eq!(
            rule.allows(&attributes),
            allowed,
            "{rule} {verb} {group}/{resource}/{subresource}"
        );
    }

    #[test]
    fn rules_match_by_verb_group_and_resource() {
        check(&rule("get,list", "", "pods"), "get", "", "pods", true);
        check(&rule("get", "", "pods"), "get", "", "pods/log", false);
        check(&rule("get", "", "pods/log"), "get", "", "pods/log", true);
        check(&rule("get", "", "*/log"), "get", "", "pods/log", true);
        check(&rule("*", "*", "*"), "patch", "apps", "deployments/scale", true);
        check(&rule("get", "apps", "*"), "get", "", "pods", false);
    }

    #[test]
    fn a_decision_names_the_binding() {
        let mut objects = Fixed::default();
        objects.put(
            GROUP,
            "clusterroles",
            json!({"metadata":{"name":"view"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}),
        );
        objects.put(
            GROUP,
            "rolebindings",
            json!({"metadata":{"name":"b","namespace":"ns"},
            "roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[{"kind":"User","name":"jane"}]}),
        );
        let attributes = |verb: &str| Attributes {
            verb: verb.into(),
            target: Target::Resource {
                group: String::new(),
                version: String::new(),
                resource: "pods".into(),
                subresource: String::new(),
                namespace: "ns".into(),
                name: String::new(),
            },
        };
        let jane = User::authenticated("jane", vec![]);
        let yes = authorize(&objects, &jane, &attributes("get"));
        assert_eq!(
            yes.reason,
            r#"RBAC: allowed by RoleBinding "b/ns" of ClusterRole "view" to User "jane""#
        );
        let no = authorize(&objects, &jane, &attributes("delete"));
        assert!(!no.allowed);
        assert_eq!(
            attributes("delete").refusal("jane", &no.reason).message,
            r#"pods is forbidden: User "jane" cannot delete resource "pods" in API group "" in the namespace "ns""#
        );
    }

    #[test]
    fn only_held_permissions_can_be_granted() {
        let held = [rule("get,list", "", "pods,configmaps")];
        assert!(missing(&held, &[rule("get", "", "configmaps")]).is_empty());
        let lacking = missing(&held, &[rule("get,delete,create", "", "pods")]);
        assert_eq!(
            lacking[0].to_string(),
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "create"]}"#
        );
    }
}
