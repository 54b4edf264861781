//! Tokens of requests (RequestAuthentication): one provider per rule, for all requests.
//!
//! A request without a token passes; that one is needed is for an AuthorizationPolicy to say. A token that no rule
//! accepts is refused.

use std::sync::Arc;

use api::lenient::Duration;
use api::security::RequestAuthentication;
use api::security::request_authentication::JwtRule;
use mesh::Config;
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::route::v3::{self as route_v3, route_match};
use xds::envoy::extensions::filters::http::jwt_authn::v3::{
    self as jwt, JwtAuthentication, JwtProvider, JwtRequirement, RequirementRule, jwt_provider,
    jwt_requirement::RequiresType,
};
use xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use xds::google::protobuf::Empty;

use crate::graph::Cx;
use crate::listener::filters;
use crate::proxy::ProxyClass;
use crate::seen::Seen;
use crate::{naming, proto};

/// Where the payload of a token is found by policies.
const PAYLOAD: &str = "payload";
/// Claims that hold a list as text.
const LISTS: [&str; 2] = ["permission", "scope"];
/// Keys of an issuer whose keys cannot be had: nobody's token is good.
const NO_KEYS: &str = r#"{"keys":[]}"#;

/// The filter for a class, if any rule is for it.
pub(crate) fn filter(cx: &mut Cx<'_>, class: &ProxyClass) -> Option<HttpFilter> {
    let mut rules: Vec<JwtRule> = policies(cx, class)
        .iter()
        .flat_map(|p| p.spec.jwt_rules.iter().cloned())
        .collect();
    if rules.is_empty() {
        return None;
    }
    rules.sort_by(|a, b| a.issuer.cmp(&b.issuer));
    let seen = cx.visible(&class.namespace);
    let names: Vec<String> = (0..rules.len()).map(|index| format!("origins-{index}")).collect();
    let providers = names
        .iter()
        .zip(&rules)
        .map(|(name, rule)| (name.clone(), provider(rule, &seen, !class.is_sidecar())))
        .collect();
    let message = JwtAuthentication {
        providers,
        rules: vec![RequirementRule {
            r#match: Some(route_v3::RouteMatch {
                path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
                ..Default::default()
            }),
            requirement_type: Some(jwt::requirement_rule::RequirementType::Requires(required(&names))),
        }],
        bypass_cors_preflight: true,
        ..Default::default()
    };
    Some(filters::http("envoy.filters.http.jwt_authn", proto::any(&message)))
}

/// Policies of the root namespace and the own one that select the workload, older first.
fn policies(cx: &mut Cx<'_>, class: &ProxyClass) -> Vec<Arc<Config<RequestAuthentication>>> {
    let root = cx.root();
    let mut namespaces = vec![root.clone()];
    if class.namespace != root {
        namespaces.push(class.namespace.clone());
    }
    let mut policies = Vec::new();
    for namespace in namespaces {
        let all = cx.of_namespace::<RequestAuthentication>(&namespace);
        let mut own: Vec<_> = all.filter(|p| selects(&p.spec, class)).cloned().collect();
        own.sort_by(|a, b| a.meta.age_order(&b.meta));
        policies.extend(own);
    }
    policies
}

/// Whether a policy is for workloads of the class. One that names other resources is not.
fn selects(policy: &RequestAuthentication, class: &ProxyClass) -> bool {
    policy.target_ref.is_none()
        && policy.target_refs.is_empty()
        && policy.selector.as_ref().is_none_or(|s| {
            s.match_labels
                .iter()
                .all(|(k, v)| class.workload_labels.get(k) == Some(v))
        })
}

fn of_type(requires: RequiresType) -> JwtRequirement {
    JwtRequirement {
        requires_type: Some(requires),
    }
}

/// Any token must be good for one provider. Providers that look at different places are each asked, so that a bad
/// token in one place is not outweighed by a good one in another.
fn required(names: &[String]) -> JwtRequirement {
    let any = |requirements| of_type(RequiresType::RequiresAny(jwt::JwtRequirementOrList { requirements }));
    let named = |name: &String| of_type(RequiresType::ProviderName(name.clone()));
    let good_or_missing = |name: &String| any(vec![named(name), of_type(RequiresType::AllowMissing(Empty {}))]);
    if let [only] = names {
        return good_or_missing(only);
    }
    let mut alternatives: Vec<JwtRequirement> = names.iter().map(named).collect();
    alternatives.push(of_type(RequiresType::RequiresAll(jwt::JwtRequirementAndList {
        requirements: names.iter().map(good_or_missing).collect(),
    })));
    any(alternatives)
}

fn provider(rule: &JwtRule, seen: &Seen, gateway: bool) -> JwtProvider {
    let mut lists: Vec<String> = LISTS.map(str::to_owned).to_vec();
    lists.extend(rule.space_delimited_claims.iter().cloned());
    lists.sort();
    lists.dedup();
    JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        forward: rule.forward_original_token,
        forward_payload_header: rule.output_payload_to_header.clone(),
        payload_in_metadata: PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(jwt_provider::NormalizePayload {
            space_delimited_claims: lists,
        }),
        // Routes of a gateway may match claims.
        clear_route_cache: gateway,
        claim_to_headers: rule
            .output_claim_to_headers
            .iter()
            .map(|c| jwt::JwtClaimToHeader {
                header_name: c.header.clone(),
                claim_name: c.claim.clone(),
                ..Default::default()
            })
            .collect(),
        from_headers: rule
            .from_headers
            .iter()
            .map(|h| jwt::JwtHeader {
                name: h.name.clone(),
                value_prefix: h.prefix.clone(),
            })
            .collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        jwks_source_specifier: Some(keys(rule, seen)),
        ..Default::default()
    }
}

/// Keys of the rule, else those that the proxy fetches, if what serves them is a service it sees.
fn keys(rule: &JwtRule, seen: &Seen) -> jwt_provider::JwksSourceSpecifier {
    let remote = if rule.jwks.is_empty() {
        cluster_of(&rule.jwks_uri, seen)
    } else {
        None
    };
    match remote {
        Some(cluster) => jwt_provider::JwksSourceSpecifier::RemoteJwks(jwt::RemoteJwks {
            http_uri: Some(core::HttpUri {
                uri: rule.jwks_uri.clone(),
                timeout: Some(proto::duration(rule.timeout.unwrap_or(Duration::seconds(5)))),
                http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(cluster)),
            }),
            cache_duration: Some(proto::seconds(300)),
            ..Default::default()
        }),
        None => {
            let keys = if rule.jwks.is_empty() { NO_KEYS } else { &rule.jwks };
            jwt_provider::JwksSourceSpecifier::LocalJwks(core::DataSource {
                specifier: Some(core::data_source::Specifier::InlineString(keys.to_owned())),
                ..Default::default()
            })
        }
    }
}

/// Cluster of the service that an address names.
fn cluster_of(uri: &str, seen: &Seen) -> Option<String> {
    let (scheme, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    let service = seen.service(host)?;
    service.port(port)?;
    Some(naming::outbound(port, "", host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_issuer_is_good_or_missing() {
        let message = required(&["origins-0".to_owned()]);
        let Some(RequiresType::RequiresAny(list)) = message.requires_type else {
            panic!("not any")
        };
        assert_eq!(list.requirements.len(), 2);
    }

    #[test]
    fn keys_that_cannot_be_had_refuse_every_token() {
        let rule = JwtRule {
            jwks_uri: "https://nobody.example/keys".to_owned(),
            ..JwtRule::default()
        };
        let jwt_provider::JwksSourceSpecifier::LocalJwks(source) = keys(&rule, &Seen::default()) else {
            panic!("fetched from nowhere")
        };
        let inline = core::data_source::Specifier::InlineString(NO_KEYS.to_owned());
        assert_eq!(source.specifier, Some(inline));
    }
}
