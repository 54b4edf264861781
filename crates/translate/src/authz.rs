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
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use api::names::annotation;
use api::security::AuthorizationPolicy;
use api::security::authorization_policy::{Action, Rule};
use mesh::Config;
use prost::{Message, Name};
use xds::envoy::config::listener::v3::Filter;
use xds::envoy::config::rbac::v3::{Policy, Rbac, rbac};
use xds::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use xds::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use xds::google::protobuf::Any;

use self::rule::Translated;
use crate::graph::Cx;
use crate::listener::filters;
use crate::proxy::ProxyClass;
use crate::query::{Query, Value};
use crate::wire;

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
    let mut all = external::filters(&inputs);
    let domains: Arc<[String]> = inputs.trust_domains.as_slice().into();
    let own = own_filters(&inputs.policies, |policy| {
        match cx.get(&Query::Policies(Arc::new(Question::new(policy, &domains)))) {
            Value::Policies(encoded) => encoded,
            _ => Arc::default(),
        }
    });
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
    let domains: Arc<[String]> = inputs.trust_domains.as_slice().into();
    own_filters(&inputs.policies, |policy| {
        Arc::new(Encoded::of(&Question::new(policy, &domains)))
    })
}

fn own_filters(
    policies: &[Arc<Config<AuthorizationPolicy>>],
    mut encoded: impl FnMut(&Arc<Config<AuthorizationPolicy>>) -> Arc<Encoded>,
) -> Filters {
    let mut filters = Filters::default();
    for action in [Action::Audit, Action::Deny, Action::Allow] {
        let policies = policies.iter().filter(|p| p.spec.action() == action);
        let (mut enforced, mut shadow): (Vec<_>, Vec<_>) = policies
            .map(|policy| (is_dry_run(policy), encoded(policy)))
            .partition(|(is_dry_run, _)| !is_dry_run);
        if enforced.is_empty() && shadow.is_empty() {
            continue;
        }
        for list in [&mut enforced, &mut shadow] {
            list.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        }
        let shadow_prefix = match action {
            // Without shadow rules the reference writes the prefix of ALLOW as well.
            _ if shadow.is_empty() => DRY_RUN_ALLOW,
            Action::Allow => DRY_RUN_ALLOW,
            Action::Deny => DRY_RUN_DENY,
            _ => "",
        };
        let rules = |list: &[(bool, Arc<Encoded>)], of: fn(&Encoded) -> &[u8]| {
            let rules = Rbac {
                action: rbac_action(action) as i32,
                ..Default::default()
            };
            let mut rules = rules.encode_to_vec();
            list.iter().for_each(|(_, encoded)| rules.extend(of(encoded)));
            (!list.is_empty()).then_some(rules)
        };
        let of_http = |list: &[_]| rules(list, |encoded| &encoded.http);
        let of_tcp = |list: &[_]| rules(list, |encoded| &encoded.tcp);
        let http = HttpRbac {
            shadow_rules_stat_prefix: shadow_prefix.to_owned(),
            ..Default::default()
        };
        let network = NetworkRbac {
            shadow_rules_stat_prefix: shadow_prefix.to_owned(),
            stat_prefix: TCP_STAT.to_owned(),
            ..Default::default()
        };
        filters.http.push(filters::http(
            "envoy.filters.http.rbac",
            with_rules(&http, of_http(&enforced), of_http(&shadow)),
        ));
        filters.tcp.push(filters::network(
            "envoy.filters.network.rbac",
            with_rules(&network, of_tcp(&enforced), of_tcp(&shadow)),
        ));
    }
    filters
}

/// A filter with rules in force, and with those that are tried out. In both messages these are the first fields.
fn with_rules<M: Message + Name>(filter: &M, enforced: Option<Vec<u8>>, shadow: Option<Vec<u8>>) -> Any {
    let rules = [(1, enforced.as_deref()), (2, shadow.as_deref())];
    Any {
        type_url: M::type_url(),
        value: wire::encode_with(filter, rules).into(),
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

/// A policy of which Envoy's are asked for.
#[derive(Debug)]
pub(crate) struct Question {
    policy: Arc<Config<AuthorizationPolicy>>,
    trust_domains: Arc<[String]>,
}

impl Question {
    fn new(policy: &Arc<Config<AuthorizationPolicy>>, trust_domains: &Arc<[String]>) -> Self {
        Self {
            policy: policy.clone(),
            trust_domains: trust_domains.clone(),
        }
    }
}

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.policy, &other.policy) || self.policy == other.policy;
        same && self.trust_domains == other.trust_domains
    }
}

/// Policies contain no number that differs from itself.
impl Eq for Question {}

/// Which it is of two questions is nearly always told by the name.
impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.policy.meta.namespace.hash(state);
        self.policy.meta.name.hash(state);
    }
}

/// Envoy's policies of one of ours, encoded as fields of an RBAC message.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Encoded {
    /// What all their names start with: no name of another starts so.
    name: String,
    http: Vec<u8>,
    tcp: Vec<u8>,
}

impl Encoded {
    /// The answer to [`Query::Policies`].
    pub(crate) fn of(question: &Question) -> Self {
        const POLICIES: u32 = 2;
        let policy = &question.policy;
        let mut encoded = Self {
            name: name_of(policy),
            ..Self::default()
        };
        let add = |name: &str, policy: Policy, out: &mut Vec<u8>| {
            wire::put_entry(POLICIES, name, policy.encoded_len(), out);
            policy.encode_raw(out);
        };
        let mut rules = rules_of(policy, "");
        rules.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (name, rule) in &rules {
            let translated = Translated::of(*rule, policy, &question.trust_domains);
            translated
                .policy(false)
                .into_iter()
                .for_each(|policy| add(name, policy, &mut encoded.http));
            translated
                .policy(true)
                .into_iter()
                .for_each(|policy| add(name, policy, &mut encoded.tcp));
        }
        encoded
    }
}

fn name_of(policy: &Config<AuthorizationPolicy>) -> String {
    format!("ns[{}]-policy[{}]", policy.meta.namespace, policy.meta.name)
}

/// The rules of a policy, each under the name of Envoy's policy; without any there is one that nothing matches.
fn rules_of<'a>(policy: &'a Config<AuthorizationPolicy>, prefix: &str) -> Vec<(String, Option<&'a Rule>)> {
    let start = name_of(policy);
    let name = |index: usize| format!("{prefix}{start}-rule[{index}]");
    if policy.spec.rules.is_empty() {
        return vec![(name(0), None)];
    }
    let rules = policy.spec.rules.iter().enumerate();
    rules.map(|(index, rule)| (name(index), Some(rule))).collect()
}

/// Envoy's policies of one of ours, by name.
fn policies_of(
    policy: &Config<AuthorizationPolicy>,
    prefix: &str,
    tcp: bool,
    domains: &[String],
) -> BTreeMap<String, Policy> {
    let rules = rules_of(policy, prefix).into_iter();
    rules
        .filter_map(|(name, rule)| Some((name, Translated::of(rule, policy, domains).policy(tcp)?)))
        .collect()
}
