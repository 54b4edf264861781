//! Request authentication: tokens, and the keys that they are checked with.

use api::security::request_authentication::{JwtRule, RequestAuthentication};
use serde_json::Value;

use super::field::{Problems, check_duration};

/// Members of a JSON Web Key that only its owner should have.
const PRIVATE: [&str; 2] = ["d", "k"];

pub(super) fn check(policy: &RequestAuthentication, problems: &mut Problems) {
    for (index, rule) in policy.jwt_rules.iter().enumerate() {
        check_rule(&format!("spec.jwtRules[{index}]"), rule, problems);
    }
}

fn check_rule(field: &str, rule: &JwtRule, problems: &mut Problems) {
    problems.require(
        !rule.issuer.is_empty() || !rule.jwks_uri.is_empty(),
        format!("{field}.issuer"),
        "an issuer or jwksUri is required",
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
            matches!(scheme, "http" | "https") && has_port(rest),
            format!("{field}.jwksUri"),
            "url must have scheme http:// or https://",
        );
    }
    check_keys(&format!("{field}.jwks"), &rule.jwks, problems);
    problems.require(
        rule.from_headers.iter().all(|header| !header.name.is_empty()),
        format!("{field}.fromHeaders"),
        "a header name is required",
    );
    for (name, list) in [("fromParams", &rule.from_params), ("fromCookies", &rule.from_cookies)] {
        problems.require(
            list.iter().all(|item| !item.is_empty()),
            format!("{field}.{name}"),
            "a name is required",
        );
    }
    for claim in &rule.output_claim_to_headers {
        let field = format!("{field}.outputClaimToHeaders");
        problems.require(
            !claim.header.is_empty() && !claim.claim.is_empty(),
            &field,
            "header and claim are required",
        );
        let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        problems.require(
            claim.header.bytes().all(name),
            &field,
            format!("{:?} is no name of a header", claim.header),
        );
    }
    check_duration(problems, &format!("{field}.timeout"), rule.timeout);
}

/// Whether an address, as far as it has a port, has one that is a number.
fn has_port(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = match host.rsplit_once(']') {
        Some((_, port)) => port.strip_prefix(':'),
        None => host.rsplit_once(':').map(|(_, port)| port),
    };
    !rest.is_empty() && port.is_none_or(|port| port.is_empty() || port.parse::<u32>().is_ok())
}

fn check_keys(field: &str, keys: &str, problems: &mut Problems) {
    if keys.is_empty() {
        return;
    }
    let parsed: Value = serde_json::from_str(keys).unwrap_or_default();
    let set: Vec<&Value> = match &parsed["keys"] {
        Value::Array(set) => set.iter().collect(),
        _ => vec![&parsed],
    };
    // A set may be empty; a key alone says its type.
    let is_set = parsed["keys"].is_array() || parsed["kty"].is_string();
    problems.require(is_set, field, "not a JSON Web Key Set (jwks)");
    for (index, key) in set.iter().enumerate() {
        if PRIVATE.iter().any(|member| !key[*member].is_null()) {
            problems.warn(
                field,
                format!("key {index} contains private key material; only public keys are used for verification"),
            );
        }
    }
}
