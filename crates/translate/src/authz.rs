//! AuthorizationPolicy: Envoy's RBAC filters, and external authorisers.
//!
//! What cannot be expressed makes a rule narrower if it allows, and wider if it denies: it fails closed.

mod condition;
mod external;
mod matcher;
mod rule;
mod trust_domain;

pub use external::Providers;
pub(crate) use matcher::claim;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::names::annotation;
use api::security::AuthorizationPolicy;
use api::security::authorization_policy::Action;
use mesh::Config;
use xds::envoy::config::listener::v3::Filter;
use xds::envoy::config::rbac::v3::{Policy, Rbac, rbac};
use xds::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use xds::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;

use crate::graph::Cx;
use crate::listener::filters;
use crate::proto;
use crate::proxy::ProxyClass;

/// Filters of a workload, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    /// In HTTP connection managers.
    pub http: Vec<HttpFilter>,
    /// In chains of other traffic.
    pub tcp: Vec<Filter>,
}

/// What filters are made from.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// Policies of the workload.
    pub policies: Vec<Arc<Config<AuthorizationPolicy>>>,
    /// The mesh's trust domain and its aliases; empty takes principals as written.
    pub trust_domains: Vec<String>,
    /// External authorisers.
    pub providers: &'a Providers,
}

/// Prefix of what shadow rules leave in metadata, for policies that are tried out.
const DRY_RUN_ALLOW: &str = "istio_dry_run_allow_";
const DRY_RUN_DENY: &str = "istio_dry_run_deny_";
/// Prefix of statistics of TCP filters.
const TCP_STAT: &str = "tcp.";

/// Filters of a class: of external authorisers first, then of its policies.
pub(crate) fn of_class(cx: &mut Cx<'_>, class: &ProxyClass) -> Filters {
    let mesh = cx.mesh().clone();
    let root: Arc<str> = mesh.root_namespace.as_str().into();
    let mut policies = Vec::new();
    let mut namespaces = vec![root.clone()];
    if class.namespace != root {
        namespaces.push(class.namespace.clone());
    }
    for namespace in &namespaces {
        let all = cx.of_namespace::<AuthorizationPolicy>(namespace);
        policies.extend(all.filter(|p| selects(p, class)).cloned());
    }
    let tokens = crate::jwt::filter(cx, class);
    if policies.is_empty() {
        return Filters {
            http: tokens.into_iter().collect(),
            tcp: Vec::new(),
        };
    }
    let seen = cx.visible(&class.namespace);
    let known = |namespace: Option<&str>, host: &str| seen.named(namespace, host).is_some();
    let providers = Providers::new(&mesh, known);
    let trust_domains = std::iter::once(&mesh.trust_domain)
        .chain(&mesh.trust_domain_aliases)
        .cloned()
        .collect();
    let inputs = Inputs {
        policies,
        trust_domains,
        providers: &providers,
    };
    let (mut all, own) = (external::filters(&inputs), self::filters(&inputs));
    // Tokens are checked before rules that read them.
    all.http.extend(tokens);
    all.http.extend(own.http);
    all.tcp.extend(own.tcp);
    all
}

/// Whether a policy is for workloads of the class. One that names other resources is not for a selector's workloads.
fn selects(policy: &Config<AuthorizationPolicy>, class: &ProxyClass) -> bool {
    let spec = &policy.spec;
    if spec.target_ref.is_some() || !spec.target_refs.is_empty() {
        return false;
    }
    spec.selector.as_ref().is_none_or(|s| {
        s.match_labels
            .iter()
            .all(|(k, v)| class.workload_labels.get(k) == Some(v))
    })
}

/// Filters of external authorisers (action CUSTOM).
pub fn external_filters(inputs: &Inputs<'_>) -> Filters {
    external::filters(inputs)
}

/// Filters of the actions AUDIT, DENY and ALLOW, in this order.
pub fn filters(inputs: &Inputs<'_>) -> Filters {
    let mut filters = Filters::default();
    for action in [Action::Audit, Action::Deny, Action::Allow] {
        let policies: Vec<_> = inputs.policies.iter().filter(|p| p.spec.action() == action).collect();
        if policies.is_empty() {
            continue;
        }
        let sets = |tcp| Sets::new(&policies, action, tcp, &inputs.trust_domains);
        filters.http.push(sets(false).into_http());
        filters.tcp.push(sets(true).into_network());
    }
    filters
}

/// The rules of one action: those in force, and those that are tried out.
struct Sets {
    enforced: Option<Rbac>,
    shadow: Option<Rbac>,
    shadow_prefix: &'static str,
}

impl Sets {
    fn new(policies: &[&Arc<Config<AuthorizationPolicy>>], action: Action, tcp: bool, domains: &[String]) -> Self {
        let mut sets = [None, None];
        for policy in policies {
            let set: &mut Option<Rbac> = &mut sets[usize::from(is_dry_run(policy))];
            let rbac = set.get_or_insert_with(|| Rbac {
                action: rbac_action(action) as i32,
                ..Default::default()
            });
            rbac.policies.extend(policies_of(policy, "", action, tcp, domains));
        }
        let [enforced, shadow] = sets;
        let shadow_prefix = match action {
            // Without shadow rules the reference writes the prefix of ALLOW as well.
            _ if shadow.is_none() => DRY_RUN_ALLOW,
            Action::Allow => DRY_RUN_ALLOW,
            Action::Deny => DRY_RUN_DENY,
            _ => "",
        };
        Self {
            enforced,
            shadow,
            shadow_prefix,
        }
    }

    fn into_http(self) -> HttpFilter {
        filters::http(
            "envoy.filters.http.rbac",
            proto::any(&HttpRbac {
                rules: self.enforced,
                shadow_rules: self.shadow,
                shadow_rules_stat_prefix: self.shadow_prefix.to_owned(),
                ..Default::default()
            }),
        )
    }

    fn into_network(self) -> Filter {
        filters::network(
            "envoy.filters.network.rbac",
            proto::any(&NetworkRbac {
                rules: self.enforced,
                shadow_rules: self.shadow,
                shadow_rules_stat_prefix: self.shadow_prefix.to_owned(),
                stat_prefix: TCP_STAT.to_owned(),
                ..Default::default()
            }),
        )
    }
}

fn rbac_action(action: Action) -> rbac::Action {
    match action {
        Action::Allow => rbac::Action::Allow,
        Action::Audit => rbac::Action::Log,
        Action::Deny | Action::Custom => rbac::Action::Deny,
    }
}

fn is_dry_run(policy: &Config<AuthorizationPolicy>) -> bool {
    policy
        .meta
        .annotations
        .get(annotation::DRY_RUN)
        .is_some_and(|v| matches!(v.as_str(), "true" | "True" | "TRUE" | "1" | "t" | "T"))
}

/// Envoy's policies of one of ours, by name.
fn policies_of(
    policy: &Config<AuthorizationPolicy>,
    prefix: &str,
    action: Action,
    tcp: bool,
    domains: &[String],
) -> BTreeMap<String, Policy> {
    let name = |index: usize| {
        format!(
            "{prefix}ns[{}]-policy[{}]-rule[{index}]",
            policy.meta.namespace, policy.meta.name
        )
    };
    if policy.spec.rules.is_empty() {
        return BTreeMap::from([(name(0), rule::never())]);
    }
    policy
        .spec
        .rules
        .iter()
        .enumerate()
        .filter_map(|(index, rule)| {
            let translated = rule::translate(rule, &policy.meta.namespace, action, tcp, domains)?;
            Some((name(index), translated))
        })
        .collect()
}
