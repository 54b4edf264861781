//! External authorisers (action CUSTOM): RBAC says when to ask, `ext_authz` asks. A broken one denies.

use std::collections::BTreeMap;

use api::lenient::Duration;
use api::mesh_config::MeshConfig;
use api::mesh_config::provider::{BodyInCheck, ExtAuthzGrpc, ExtAuthzHttp};
use api::security::authorization_policy::Action;
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::rbac::v3::{Rbac, rbac};
use xds::envoy::extensions::filters::http::ext_authz::v3 as http_authz;
use xds::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use xds::envoy::extensions::filters::network::ext_authz::v3 as network_authz;
use xds::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use xds::envoy::r#type::matcher::v3::{ListStringMatcher, StringMatcher, string_matcher::MatchPattern};
use xds::envoy::r#type::v3::HttpStatus;

use super::{Filters, Inputs, TCP_STAT, is_dry_run, matcher, policies_of};
use crate::listener::filters;
use crate::{naming, proto};

/// Start of the names of policies that ask.
const MATCH_PREFIX: &str = "istio-ext-authz";
/// Prefix of what those policies leave in metadata.
const SHADOW_PREFIX: &str = "istio_ext_authz_";
/// End of the names of policies that deny because their authoriser is unusable.
const BROKEN_SUFFIX: &str = "-deny-due-to-bad-CUSTOM-action";

/// A usable authoriser.
#[derive(Clone, Debug)]
struct Provider {
    http: http_authz::ExtAuthz,
    network: Option<network_authz::ExtAuthz>,
}

/// External authorisers by name; those that are configured wrongly are known to be unusable.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    usable: BTreeMap<String, Provider>,
}

impl Providers {
    /// Reads the mesh configuration; `known` says whether a host is a service (of that namespace, if one is given).
    pub fn new(mesh: &MeshConfig, known: impl Fn(Option<&str>, &str) -> bool) -> Self {
        let mut usable = BTreeMap::new();
        for provider in &mesh.extension_providers {
            let name = &provider.name;
            let duplicated = mesh.extension_providers.iter().filter(|p| p.name == *name).count() > 1;
            if duplicated || !is_valid_name(name) {
                continue;
            }
            let parsed = match (&provider.envoy_ext_authz_http, &provider.envoy_ext_authz_grpc) {
                (Some(http), _) => of_http(http, &known),
                (None, Some(grpc)) => of_grpc(grpc, &known),
                _ => None,
            };
            usable.extend(parsed.map(|p| (name.clone(), p)));
        }
        Self { usable }
    }
}

fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

pub(super) fn filters(inputs: &Inputs<'_>) -> Filters {
    let mut by_provider: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for policy in inputs.policies.iter().filter(|p| p.spec.action() == Action::Custom) {
        let name = policy.spec.provider.as_ref().map_or("", |p| p.name.as_str());
        by_provider.entry(name).or_default().push(policy);
    }
    // Two authorisers on one workload are not supported: nothing passes.
    let too_many = by_provider.len() > 1;
    let mut all = Filters::default();
    for (name, policies) in by_provider {
        let prefix = if name.is_empty() {
            format!("{MATCH_PREFIX}-")
        } else {
            format!("{MATCH_PREFIX}-{name}-")
        };
        let rules = |tcp: bool, dry_run: bool| Rbac {
            action: rbac::Action::Deny as i32,
            policies: policies
                .iter()
                .filter(|p| is_dry_run(p) == dry_run)
                .flat_map(|p| policies_of(p, &prefix, tcp, &inputs.trust_domains))
                .collect(),
            ..Default::default()
        };
        match inputs.providers.usable.get(name).filter(|_| !too_many) {
            None => {
                let broken = |tcp| {
                    let rules = rules(tcp, false);
                    let policies = rules
                        .policies
                        .into_iter()
                        .map(|(name, p)| (format!("{name}{BROKEN_SUFFIX}"), p))
                        .collect();
                    Some(Rbac {
                        action: rbac::Action::Deny as i32,
                        policies,
                        ..Default::default()
                    })
                };
                let http = HttpRbac {
                    rules: broken(false),
                    ..Default::default()
                };
                all.http
                    .push(filters::http("envoy.filters.http.rbac", proto::any(&http)));
                let network = NetworkRbac {
                    rules: broken(true),
                    stat_prefix: TCP_STAT.to_owned(),
                    ..Default::default()
                };
                all.tcp
                    .push(filters::network("envoy.filters.network.rbac", proto::any(&network)));
            }
            Some(provider) => {
                let tried = |tcp| Some(rules(tcp, true)).filter(|r| !r.policies.is_empty());
                let asks = |filter: &str| {
                    let key = format!("{SHADOW_PREFIX}shadow_effective_policy_id");
                    let value = matcher::value(matcher::prefix(&format!("{MATCH_PREFIX}-{name}")));
                    Some(matcher::metadata(filter, [key.as_str()], value))
                };
                let http = HttpRbac {
                    rules: tried(false),
                    shadow_rules: Some(rules(false, false)),
                    shadow_rules_stat_prefix: SHADOW_PREFIX.to_owned(),
                    ..Default::default()
                };
                all.http
                    .push(filters::http("envoy.filters.http.rbac", proto::any(&http)));
                let ask = http_authz::ExtAuthz {
                    filter_enabled_metadata: asks("envoy.filters.http.rbac"),
                    ..provider.http.clone()
                };
                all.http
                    .push(filters::http("envoy.filters.http.ext_authz", proto::any(&ask)));
                // An authoriser that speaks HTTP cannot judge other traffic.
                let Some(network) = &provider.network else { continue };
                let when = NetworkRbac {
                    rules: tried(true),
                    shadow_rules: Some(rules(true, false)),
                    shadow_rules_stat_prefix: SHADOW_PREFIX.to_owned(),
                    stat_prefix: TCP_STAT.to_owned(),
                    ..Default::default()
                };
                all.tcp
                    .push(filters::network("envoy.filters.network.rbac", proto::any(&when)));
                let ask = network_authz::ExtAuthz {
                    filter_enabled_metadata: asks("envoy.filters.network.rbac"),
                    ..network.clone()
                };
                all.tcp
                    .push(filters::network("envoy.filters.network.ext_authz", proto::any(&ask)));
            }
        }
    }
    all
}

/// Host and cluster of `[namespace/]host` with a port; none if it is no service or no port.
fn target(service: &str, port: u32, known: &impl Fn(Option<&str>, &str) -> bool) -> Option<(String, String)> {
    let port = u16::try_from(port).ok().filter(|p| *p != 0)?;
    let (namespace, host) = match service.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, service),
    };
    known(namespace, host).then(|| (host.to_owned(), naming::outbound(port, "", host)))
}

/// Status on failure: absent, or one that Envoy knows. The outer option is none for an unusable one.
fn status(text: &str) -> Option<Option<HttpStatus>> {
    if text.is_empty() {
        return Some(None);
    }
    let code: i32 = text.parse().ok()?;
    xds::envoy::r#type::v3::StatusCode::try_from(code)
        .ok()
        .map(|code| Some(HttpStatus { code: code as i32 }))
}

fn timeout(timeout: Option<Duration>) -> Option<xds::google::protobuf::Duration> {
    Some(proto::duration(timeout.unwrap_or(Duration::seconds(600))))
}

fn body(body: Option<&BodyInCheck>) -> Option<http_authz::BufferSettings> {
    body.map(|body| http_authz::BufferSettings {
        max_request_bytes: body.max_request_bytes.0,
        allow_partial_message: body.allow_partial_message,
        pack_as_bytes: body.pack_as_bytes,
    })
}

fn names(list: &[String]) -> Option<ListStringMatcher> {
    let pattern = |name: &String| {
        let pattern = if let Some(end) = name.strip_prefix('*') {
            MatchPattern::Suffix(end.to_owned())
        } else if let Some(start) = name.strip_suffix('*') {
            MatchPattern::Prefix(start.to_owned())
        } else {
            MatchPattern::Exact(name.clone())
        };
        StringMatcher {
            match_pattern: Some(pattern),
            ignore_case: true,
        }
    };
    (!list.is_empty()).then(|| ListStringMatcher {
        patterns: list.iter().map(pattern).collect(),
    })
}

fn of_http(config: &ExtAuthzHttp, known: &impl Fn(Option<&str>, &str) -> bool) -> Option<Provider> {
    let (host, cluster) = target(&config.service, config.port.0, known)?;
    let status_on_error = status(&config.status_on_error)?;
    let lists = [
        &config.include_request_headers_in_check,
        &config.include_headers_in_check,
        &config.headers_to_downstream_on_deny,
        &config.headers_to_downstream_on_allow,
        &config.headers_to_upstream_on_allow,
    ];
    let prefix_ok = config.path_prefix.is_empty() || config.path_prefix.starts_with('/');
    if !prefix_ok || lists.iter().any(|list| list.iter().any(|name| name == "*")) {
        return None;
    }
    let added: Vec<core::HeaderValue> = config
        .include_additional_headers_in_check
        .iter()
        .map(|(key, value)| core::HeaderValue {
            key: key.clone(),
            value: value.clone(),
            ..Default::default()
        })
        .collect();
    let response = http_authz::AuthorizationResponse {
        allowed_upstream_headers: names(&config.headers_to_upstream_on_allow),
        allowed_client_headers: names(&config.headers_to_downstream_on_deny),
        allowed_client_headers_on_success: names(&config.headers_to_downstream_on_allow),
        ..Default::default()
    };
    let service = http_authz::HttpService {
        path_prefix: config.path_prefix.clone(),
        server_uri: Some(core::HttpUri {
            uri: format!("http://{host}"),
            timeout: timeout(config.timeout),
            http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(cluster)),
        }),
        authorization_request: (!added.is_empty()).then(|| http_authz::AuthorizationRequest {
            headers_to_add: added,
            ..Default::default()
        }),
        authorization_response: (response != http_authz::AuthorizationResponse::default()).then_some(response),
        ..Default::default()
    };
    let http = http_authz::ExtAuthz {
        status_on_error,
        failure_mode_allow: config.fail_open,
        clear_route_cache: config.clear_route_cache,
        transport_api_version: core::ApiVersion::V3 as i32,
        services: Some(http_authz::ext_authz::Services::HttpService(service)),
        with_request_body: body(config.include_request_body_in_check.as_ref()),
        allowed_headers: names(&config.include_request_headers_in_check)
            .or_else(|| names(&config.include_headers_in_check)),
        ..Default::default()
    };
    Some(Provider { http, network: None })
}

fn of_grpc(config: &ExtAuthzGrpc, known: &impl Fn(Option<&str>, &str) -> bool) -> Option<Provider> {
    let (host, cluster) = target(&config.service, config.port.0, known)?;
    let status_on_error = status(&config.status_on_error)?;
    let service = core::GrpcService {
        target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(
            core::grpc_service::EnvoyGrpc {
                cluster_name: cluster,
                authority: host,
                ..Default::default()
            },
        )),
        timeout: timeout(config.timeout),
        ..Default::default()
    };
    let http = http_authz::ExtAuthz {
        status_on_error,
        failure_mode_allow: config.fail_open,
        clear_route_cache: config.clear_route_cache,
        transport_api_version: core::ApiVersion::V3 as i32,
        services: Some(http_authz::ext_authz::Services::GrpcService(service.clone())),
        with_request_body: body(config.include_request_body_in_check.as_ref()),
        ..Default::default()
    };
    let network = network_authz::ExtAuthz {
        stat_prefix: TCP_STAT.to_owned(),
        failure_mode_allow: config.fail_open,
        transport_api_version: core::ApiVersion::V3 as i32,
        grpc_service: Some(service),
        ..Default::default()
    };
    Some(Provider {
        http,
        network: Some(network),
    })
}
