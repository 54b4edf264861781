//! What requests of a route are hashed by, if its destination asks for it.

use api::networking::destination_rule::{ConsistentHash, TrafficPolicy};
use mesh::Service;
use xds::envoy::config::route::v3::route_action::{HashPolicy, hash_policy};

use crate::client::Client;
use crate::graph::Cx;
use crate::proto;
use crate::rules;
use crate::scope::ScopeKey;

/// The hash of a destination.
pub(super) fn of_destination(
    cx: &mut Cx<'_>,
    client: &Client,
    scope: &ScopeKey,
    host: &str,
    subset: &str,
    port: u16,
) -> Option<HashPolicy> {
    if !cx.has_rules() || cx.host_rules(&host.into()).is_empty() {
        return None;
    }
    let service = cx.known(scope, host)?;
    of_service(cx, client, &service, subset, port)
}

/// The hash of a service that is known.
pub(super) fn of_service(
    cx: &mut Cx<'_>,
    client: &Client,
    service: &Service,
    subset: &str,
    port: u16,
) -> Option<HashPolicy> {
    let rule = cx
        .host_rules(&service.key.host)
        .resolve(client, &service.key.namespace)?;
    let whole = rules::policy_for_port(rule.spec.traffic_policy.as_ref(), port);
    let own = rule
        .spec
        .subsets
        .iter()
        .find(|s| s.name == subset)
        .and_then(|s| s.traffic_policy.as_ref());
    let policy: Option<TrafficPolicy> = rules::policy_for_subset(whole.as_ref(), own, port);
    policy?.load_balancer?.consistent_hash.as_ref().and_then(policy_of)
}

fn policy_of(hash: &ConsistentHash) -> Option<HashPolicy> {
    let specifier = if let Some(name) = &hash.http_header_name {
        hash_policy::PolicySpecifier::Header(hash_policy::Header {
            header_name: name.clone(),
            ..Default::default()
        })
    } else if let Some(cookie) = &hash.http_cookie {
        hash_policy::PolicySpecifier::Cookie(hash_policy::Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.map(proto::duration),
            path: cookie.path.clone(),
            attributes: cookie
                .attributes
                .iter()
                .map(|a| hash_policy::CookieAttribute {
                    name: a.name.clone(),
                    value: a.value.clone(),
                })
                .collect(),
        })
    } else if hash.use_source_ip == Some(true) {
        hash_policy::PolicySpecifier::ConnectionProperties(hash_policy::ConnectionProperties { source_ip: true })
    } else if let Some(name) = &hash.http_query_parameter_name {
        hash_policy::PolicySpecifier::QueryParameter(hash_policy::QueryParameter { name: name.clone() })
    } else {
        return None;
    };
    Some(HashPolicy {
        policy_specifier: Some(specifier),
        terminal: false,
    })
}
