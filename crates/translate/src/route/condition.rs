//! Conditions of a route as Envoy's match.

use api::networking::virtual_service::{HttpMatch, StringMatch};
use xds::envoy::config::route::v3::{
    HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
};
use xds::envoy::r#type::matcher::v3::{MetadataMatcher, RegexMatcher, StringMatcher, string_matcher::MatchPattern};

use crate::authz;
use crate::proto;
use crate::tls;

/// Prefixes of header names that mean a claim of the request's token.
const CLAIMS: [&str; 2] = ["@request.auth.claims.", "@request.auth.claims["];

pub(super) fn of(condition: Option<&HttpMatch>) -> RouteMatch {
    let mut result = super::everything();
    let Some(condition) = condition else { return result };
    let mut headers: Vec<HeaderMatcher> = Vec::new();
    let mut metadata: Vec<MetadataMatcher> = Vec::new();
    for (name, text) in &condition.headers {
        match claim(name) {
            Some(path) => metadata.extend(claim_matcher(&path, text)),
            None => headers.push(header(name, text)),
        }
    }
    for (name, text) in &condition.without_headers {
        match claim(name) {
            Some(path) => metadata.extend(claim_matcher(&path, text).map(|m| MetadataMatcher { invert: true, ..m })),
            None => headers.push(HeaderMatcher {
                invert_match: true,
                treat_missing_header_as_empty: !is_presence(text),
                ..header(name, text)
            }),
        }
    }
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(uri) = &condition.uri {
        result.path_specifier = match uri {
            StringMatch { exact: Some(path), .. } => Some(PathSpecifier::Path(path.clone())),
            StringMatch {
                prefix: Some(prefix), ..
            } => Some(PathSpecifier::Prefix(prefix.clone())),
            StringMatch { regex: Some(regex), .. } => Some(PathSpecifier::SafeRegex(RegexMatcher {
                regex: regex.clone(),
                ..Default::default()
            })),
            _ => result.path_specifier,
        };
    }
    result.case_sensitive = Some(proto::bool_value(!condition.ignore_uri_case));
    for (name, text) in [
        (":method", &condition.method),
        (":authority", &condition.authority),
        (":scheme", &condition.scheme),
    ] {
        headers.extend(text.as_ref().map(|text| header(name, text)));
    }
    result.headers = headers;
    result.dynamic_metadata = metadata;
    result.query_parameters = condition
        .query_params
        .iter()
        .map(|(name, text)| QueryParameterMatcher {
            name: name.clone(),
            query_parameter_match_specifier: if is_presence(text) {
                Some(QueryParameterMatchSpecifier::PresentMatch(true))
            } else {
                string(text).map(QueryParameterMatchSpecifier::StringMatch)
            },
        })
        .collect();
    result
}

/// Whether a match takes everything.
pub(super) fn is_everything(condition: &RouteMatch) -> bool {
    let path = match &condition.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == "*" || regex.regex == ".*",
        _ => false,
    };
    path && condition.headers.is_empty()
        && condition.query_parameters.is_empty()
        && condition.dynamic_metadata.is_empty()
}

fn is_presence(text: &StringMatch) -> bool {
    match text {
        StringMatch {
            exact: None,
            prefix: None,
            regex: None,
        } => true,
        StringMatch { regex: Some(regex), .. } => regex == "*",
        _ => false,
    }
}

fn header(name: &str, text: &StringMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: if is_presence(text) {
            Some(HeaderMatchSpecifier::PresentMatch(true))
        } else {
            string(text).map(HeaderMatchSpecifier::StringMatch)
        },
        ..Default::default()
    }
}

/// A condition on a text as Envoy's matcher.
pub(super) fn string(text: &StringMatch) -> Option<StringMatcher> {
    match text {
        StringMatch { exact: Some(exact), .. } => Some(tls::exact(exact)),
        StringMatch {
            prefix: Some(prefix), ..
        } => Some(tls::prefix(prefix)),
        StringMatch { regex: Some(regex), .. } => Some(StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(RegexMatcher {
                regex: regex.clone(),
                ..Default::default()
            })),
            ..Default::default()
        }),
        _ => None,
    }
}

/// Path of the claim that a header name means: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`.
fn claim(name: &str) -> Option<Vec<String>> {
    let lower = name.to_ascii_lowercase();
    let prefix = CLAIMS.into_iter().find(|p| lower.starts_with(p))?;
    let rest = &name[prefix.len()..];
    if prefix.ends_with('[') {
        return rest
            .strip_suffix(']')
            .map(|inner| inner.split("][").map(str::to_owned).collect());
    }
    (!rest.is_empty()).then(|| rest.split('.').map(str::to_owned).collect())
}

fn claim_matcher(path: &[String], text: &StringMatch) -> Option<MetadataMatcher> {
    string(text).map(|matcher| authz::claim(path, matcher))
}
