//! Authorization, peer and request authentication policies.

use api::security::authorization_policy::{AuthorizationPolicy, Condition, Source};
use api::security::peer_authentication::PeerAuthentication;
use api::security::request_authentication::{JwtRule, RequestAuthentication};

use super::field::{Problems, check_cidr, check_port_number};

/// Conditions' keys that are complete names; others are prefixes with brackets.
const KEYS: [&str; 14] = [
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "source.user",
    "destination.name",
];
const PREFIXES: [&str; 3] = [
    "request.headers[",
    "request.auth.claims[",
    "experimental.envoy.filters.",
];

pub(super) fn check_authorization(policy: &AuthorizationPolicy, problems: &mut Problems) {
    let custom = policy.action() == api::security::authorization_policy::Action::Custom;
    let named = policy
        .provider
        .as_ref()
        .is_some_and(|provider| !provider.name.is_empty());
    problems.require(
        !custom || named,
        "spec.provider.name",
        "action CUSTOM requires a provider",
    );
    problems.require(
        custom || policy.provider.is_none(),
        "spec.provider",
        "a provider must not be used with another action than CUSTOM",
    );
    for (index, rule) in policy.rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        for (at, from) in rule.from.iter().enumerate() {
            match &from.source {
                Some(source) => check_source(&format!("{field}.from[{at}].source"), source, problems),
                None => problems.add(format!("{field}.from[{at}].source"), "a source is required"),
            }
        }
        for (at, to) in rule.to.iter().enumerate() {
            let field = format!("{field}.to[{at}].operation");
            let Some(operation) = &to.operation else {
                problems.add(field, "an operation is required");
                continue;
            };
            for port in operation.ports.iter().chain(&operation.not_ports) {
                check_port_number(problems, &format!("{field}.ports"), port.parse().unwrap_or(0));
            }
            let empty = operation
                .paths
                .iter()
                .chain(&operation.hosts)
                .chain(&operation.methods)
                .any(String::is_empty);
            problems.require(!empty, field, "an empty value matches nothing; leave it out");
        }
        for (at, condition) in rule.when.iter().enumerate() {
            check_condition(&format!("{field}.when[{at}]"), condition, problems);
        }
    }
}

fn check_source(field: &str, source: &Source, problems: &mut Problems) {
    let blocks = source.ip_blocks.iter().chain(&source.not_ip_blocks);
    for block in blocks
        .chain(&source.remote_ip_blocks)
        .chain(&source.not_remote_ip_blocks)
    {
        check_cidr(problems, &format!("{field}.ipBlocks"), block);
    }
    let accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let others = [
        &source.namespaces,
        &source.not_namespaces,
        &source.principals,
        &source.not_principals,
    ];
    problems.require(
        !accounts || others.iter().all(|list| list.is_empty()),
        field,
        "Cannot set serviceAccounts with namespaces or principals",
    );
    let nothing = serde_json::to_value(source).is_ok_and(|value| {
        value
            .as_object()
            .is_some_and(|fields| fields.values().all(|v| v.as_array().is_some_and(Vec::is_empty)))
    });
    problems.require(!nothing, field, "an empty source matches nothing; leave it out");
}

fn check_condition(field: &str, condition: &Condition, problems: &mut Problems) {
    let key = condition.key.as_str();
    let known = KEYS.contains(&key) || PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    problems.require(!key.is_empty(), format!("{field}.key"), "key must not be empty");
    problems.require(
        key.is_empty() || known,
        format!("{field}.key"),
        format!("unknown attribute {key:?}"),
    );
    problems.require(
        !condition.values.is_empty() || !condition.not_values.is_empty(),
        field,
        "at least one of values and notValues is required",
    );
    if matches!(key, "source.ip" | "remote.ip" | "destination.ip") {
        condition
            .values
            .iter()
            .chain(&condition.not_values)
            .for_each(|value| check_cidr(problems, field, value));
    }
}

pub(super) fn check_peer(policy: &PeerAuthentication, problems: &mut Problems) {
    let labels = policy.selector.as_ref().map(|selector| &selector.match_labels);
    let selects = labels.is_some_and(|labels| !labels.is_empty());
    problems.require(
        policy.port_level_mtls.is_empty() || selects,
        "spec.portLevelMtls",
        "port level settings need a selector",
    );
    for port in policy.port_level_mtls.keys() {
        check_port_number(
            problems,
            &format!("spec.portLevelMtls[{port}]"),
            port.parse().unwrap_or(0),
        );
    }
}

pub(super) fn check_request(policy: &RequestAuthentication, problems: &mut Problems) {
    for (index, rule) in policy.jwt_rules.iter().enumerate() {
        check_jwt(&format!("spec.jwtRules[{index}]"), rule, problems);
    }
}

fn check_jwt(field: &str, rule: &JwtRule, problems: &mut Problems) {
    problems.require(
        !rule.issuer.is_empty(),
        format!("{field}.issuer"),
        "an issuer is required",
    );
    problems.require(
        rule.audiences.iter().all(|audience| !audience.is_empty()),
        format!("{field}.audiences"),
        "an audience must not be empty",
    );
    problems.require(
        rule.jwks.is_empty() || rule.jwks_uri.is_empty(),
        field,
        "only one of jwks and jwksUri can be set",
    );
    if !rule.jwks_uri.is_empty() {
        let (scheme, rest) = rule.jwks_uri.split_once("://").unwrap_or(("", ""));
        problems.require(
            matches!(scheme, "http" | "https") && !rest.is_empty(),
            format!("{field}.jwksUri"),
            "url must have scheme http:// or https://",
        );
    }
    if !rule.jwks.is_empty() {
        let parsed = serde_json::from_str::<serde_json::Value>(&rule.jwks).is_ok_and(|jwks| jwks["keys"].is_array());
        problems.require(parsed, format!("{field}.jwks"), "not a JSON Web Key Set");
    }
    problems.require(
        rule.from_headers.iter().all(|header| !header.name.is_empty()),
        format!("{field}.fromHeaders"),
        "a header name is required",
    );
    for claim in &rule.output_claim_to_headers {
        problems.require(
            !claim.header.is_empty() && !claim.claim.is_empty(),
            format!("{field}.outputClaimToHeaders"),
            "header and claim are required",
        );
    }
}
