//! A rule of a policy as Envoy's permissions and principals.

use std::borrow::Cow;

use api::security::AuthorizationPolicy;
use api::security::authorization_policy::{Action, Rule};
use mesh::Config;
use xds::envoy::config::rbac::v3::{Permission, Policy, Principal, permission, principal};

use super::condition::{Attribute, Inexpressible};
use super::trust_domain;

/// An attribute with the values it may have and those it must not.
#[derive(Clone)]
pub(super) struct Condition<'a> {
    attribute: Attribute<'a>,
    values: Cow<'a, [String]>,
    not_values: Cow<'a, [String]>,
}

/// A policy that nothing matches.
fn never() -> Policy {
    let any = Permission {
        rule: Some(permission::Rule::Any(true)),
    };
    let nobody = Principal {
        identifier: Some(principal::Identifier::Any(true)),
    };
    Policy {
        permissions: vec![Permission {
            rule: Some(permission::Rule::NotRule(Box::new(any))),
        }],
        principals: vec![Principal {
            identifier: Some(principal::Identifier::NotId(Box::new(nobody))),
        }],
        ..Default::default()
    }
}

/// A rule, read once for all protocols.
pub(super) enum Translated<'a> {
    /// That nothing matches.
    Never,
    /// What may be requested and by whom, each as alternatives of conditions that all hold.
    Conditions {
        permissions: Alternatives<'a>,
        principals: Alternatives<'a>,
        /// Whether a rule that cannot be expressed in full is left out.
        strict: bool,
    },
    /// With an attribute that is unknown.
    Unknown,
}

impl<'a> Translated<'a> {
    /// Reads a rule of a policy, or that it has none.
    pub(super) fn of(rule: Option<&'a Rule>, policy: &'a Config<AuthorizationPolicy>, domains: &[String]) -> Self {
        let Some(rule) = rule else { return Self::Never };
        match conditions(rule, &policy.meta.namespace, domains) {
            Some((permissions, principals)) => Self::Conditions {
                permissions,
                principals,
                strict: policy.spec.action() == Action::Allow,
            },
            None => Self::Unknown,
        }
    }

    /// Envoy's policy; none if the rule cannot be expressed.
    pub(super) fn policy(&self, tcp: bool) -> Option<Policy> {
        let (permissions, principals, strict) = match self {
            Self::Never => return Some(never()),
            Self::Unknown => return None,
            Self::Conditions {
                permissions,
                principals,
                strict,
            } => (permissions, principals, *strict),
        };
        let permissions = permissions.iter().map(|list| all_permissions(list, tcp, strict));
        let principals = principals.iter().map(|list| all_principals(list, tcp, strict));
        Some(Policy {
            permissions: permissions.collect::<Result<_, Inexpressible>>().ok()?,
            principals: principals.collect::<Result<_, Inexpressible>>().ok()?,
            ..Default::default()
        })
    }
}

type Alternatives<'a> = Vec<Vec<Condition<'a>>>;

/// Alternatives of what is requested and of who requests; none if an attribute is unknown.
fn conditions<'a>(
    rule: &'a Rule,
    namespace: &'a str,
    domains: &[String],
) -> Option<(Alternatives<'a>, Alternatives<'a>)> {
    let (mut permissions, mut principals) = (Vec::new(), Vec::new());
    for when in &rule.when {
        let attribute = Attribute::of_key(&when.key, namespace)?;
        let list = if attribute.is_permission() {
            &mut permissions
        } else {
            &mut principals
        };
        push(list, attribute, &when.values, &when.not_values, domains);
    }
    let from: Alternatives<'a> = rule
        .from
        .iter()
        .map(|from| {
            let mut list = Vec::new();
            if let Some(s) = &from.source {
                let mut add =
                    |attribute, yes: &'a [String], no: &'a [String]| push(&mut list, attribute, yes, no, domains);
                add(Attribute::Principal, &s.principals, &s.not_principals);
                add(
                    Attribute::RequestPrincipal,
                    &s.request_principals,
                    &s.not_request_principals,
                );
                let account = Attribute::ServiceAccount(namespace);
                add(account, &s.service_accounts, &s.not_service_accounts);
                add(Attribute::TrustDomain, &s.trust_domains, &s.not_trust_domains);
                add(Attribute::Namespace, &s.namespaces, &s.not_namespaces);
                add(Attribute::RemoteIp, &s.remote_ip_blocks, &s.not_remote_ip_blocks);
                add(Attribute::SourceIp, &s.ip_blocks, &s.not_ip_blocks);
            }
            list.extend(principals.iter().cloned());
            list
        })
        .collect();
    let to: Alternatives<'a> = rule
        .to
        .iter()
        .map(|to| {
            let mut list = Vec::new();
            if let Some(o) = &to.operation {
                let mut add =
                    |attribute, yes: &'a [String], no: &'a [String]| push(&mut list, attribute, yes, no, domains);
                add(Attribute::Host, &o.hosts, &o.not_hosts);
                add(Attribute::Method, &o.methods, &o.not_methods);
                add(Attribute::Path, &o.paths, &o.not_paths);
                add(Attribute::DestinationPort, &o.ports, &o.not_ports);
            }
            list.extend(permissions.iter().cloned());
            list
        })
        .collect();
    Some((
        if to.is_empty() { vec![permissions] } else { to },
        if from.is_empty() { vec![principals] } else { from },
    ))
}

fn push<'a>(
    list: &mut Vec<Condition<'a>>,
    attribute: Attribute<'a>,
    values: &'a [String],
    not_values: &'a [String],
    domains: &[String],
) {
    if values.is_empty() && not_values.is_empty() {
        return;
    }
    let expand = |values: &'a [String]| match attribute {
        Attribute::Principal => trust_domain::principals(values, domains).into(),
        Attribute::TrustDomain => trust_domain::names(values, domains).into(),
        _ => Cow::Borrowed(values),
    };
    let (values, not_values) = (expand(values), expand(not_values));
    list.push(Condition {
        attribute,
        values,
        not_values,
    });
}

/// Drops what cannot be expressed, or with `strict` gives up.
fn keep<T>(result: Result<T, Inexpressible>, strict: bool) -> Result<Option<T>, Inexpressible> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if strict => Err(error),
        Err(_) => Ok(None),
    }
}

/// One matcher for a list of values: alternatives, or a joint one.
fn alternatives<T>(
    values: &[String],
    joint: bool,
    strict: bool,
    one: impl Fn(&str) -> Result<T, Inexpressible>,
    all: impl Fn(&[String]) -> Result<T, Inexpressible>,
    or: impl Fn(Vec<T>) -> T,
) -> Result<Option<T>, Inexpressible> {
    if values.is_empty() {
        return Ok(None);
    }
    if joint {
        return keep(all(values), strict);
    }
    let mut list = Vec::new();
    for value in values {
        list.extend(keep(one(value), strict)?);
    }
    Ok((!list.is_empty()).then(|| or(list)))
}

fn all_permissions(list: &[Condition<'_>], tcp: bool, strict: bool) -> Result<Permission, Inexpressible> {
    let or = |rules| Permission {
        rule: Some(permission::Rule::OrRules(permission::Set { rules })),
    };
    let mut rules = Vec::new();
    for Condition {
        attribute,
        values,
        not_values,
    } in list
    {
        let translate = |values: &[String]| {
            let one = |value: &str| attribute.permission(value, tcp);
            alternatives(
                values,
                attribute.is_joint(),
                strict,
                one,
                |values| attribute.joint_permission(values),
                or,
            )
        };
        rules.extend(translate(values)?);
        let not = translate(not_values)?;
        rules.extend(not.map(|not| Permission {
            rule: Some(permission::Rule::NotRule(Box::new(not))),
        }));
    }
    if rules.is_empty() {
        rules.push(Permission {
            rule: Some(permission::Rule::Any(true)),
        });
    }
    Ok(Permission {
        rule: Some(permission::Rule::AndRules(permission::Set { rules })),
    })
}

fn all_principals(list: &[Condition<'_>], tcp: bool, strict: bool) -> Result<Principal, Inexpressible> {
    let or = |ids| Principal {
        identifier: Some(principal::Identifier::OrIds(principal::Set { ids })),
    };
    let mut ids = Vec::new();
    for Condition {
        attribute,
        values,
        not_values,
    } in list
    {
        let translate = |values: &[String]| {
            let one = |value: &str| attribute.principal(value, tcp);
            let all = |values: &[String]| attribute.joint_principal(values, tcp);
            alternatives(values, attribute.is_joint(), strict, one, all, or)
        };
        ids.extend(translate(values)?);
        let not = translate(not_values)?;
        ids.extend(not.map(|not| Principal {
            identifier: Some(principal::Identifier::NotId(Box::new(not))),
        }));
    }
    if ids.is_empty() {
        ids.push(Principal {
            identifier: Some(principal::Identifier::Any(true)),
        });
    }
    Ok(Principal {
        identifier: Some(principal::Identifier::AndIds(principal::Set { ids })),
    })
}
