//! Retries.

use api::networking::virtual_service::HttpRetry;
use xds::envoy::config::route::v3::{RetryPolicy, retry_policy};
use xds::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use xds::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;

use crate::proto;

const DEFAULT_CONDITIONS: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const DEFAULT_INBOUND_CONDITIONS: &str = "reset-before-request";

/// Retries of an outbound route. A consistent hash always leads to the same endpoint, so others are not sought.
pub(super) fn outbound(setting: Option<&HttpRetry>, consistent_hash: bool) -> Option<RetryPolicy> {
    let mut policy = RetryPolicy {
        retry_on: DEFAULT_CONDITIONS.to_owned(),
        num_retries: Some(proto::u32_value(2)),
        host_selection_retry_max_attempts: 5,
        retry_host_predicate: if consistent_hash { Vec::new() } else { other_hosts() },
        ..Default::default()
    };
    let Some(setting) = setting else { return Some(policy) };
    let attempts = u32::try_from(setting.attempts.0).ok().filter(|n| *n > 0)?;
    policy.num_retries = Some(proto::u32_value(attempts));
    conditions(&setting.retry_on, &mut policy);
    policy.per_try_timeout = setting.per_try_timeout.map(proto::duration);
    match setting.retry_ignore_previous_hosts {
        None => {}
        Some(true) => policy.retry_host_predicate = other_hosts(),
        Some(false) => policy.retry_host_predicate = Vec::new(),
    }
    if setting.retry_remote_localities == Some(true) {
        policy.retry_priority = Some(retry_policy::RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".to_owned(),
            config_type: Some(retry_policy::retry_priority::ConfigType::TypedConfig(proto::any(
                &PreviousPrioritiesConfig { update_frequency: 2 },
            ))),
        });
    }
    policy.retry_back_off = back_off(setting);
    Some(policy)
}

/// Retries of an inbound route.
pub(super) fn inbound(setting: Option<&HttpRetry>) -> Option<RetryPolicy> {
    let mut policy = RetryPolicy {
        retry_on: DEFAULT_INBOUND_CONDITIONS.to_owned(),
        num_retries: Some(proto::u32_value(2)),
        ..Default::default()
    };
    let Some(setting) = setting else { return Some(policy) };
    let attempts = u32::try_from(setting.attempts.0).ok().filter(|n| *n > 0)?;
    policy.num_retries = Some(proto::u32_value(attempts));
    conditions(&setting.retry_on, &mut policy);
    policy.retry_back_off = back_off(setting);
    Some(policy)
}

fn back_off(setting: &HttpRetry) -> Option<retry_policy::RetryBackOff> {
    setting.backoff.map(|base| retry_policy::RetryBackOff {
        base_interval: Some(proto::duration(base)),
        ..Default::default()
    })
}

/// Numbers among the conditions are status codes.
fn conditions(text: &str, policy: &mut RetryPolicy) {
    if text.is_empty() {
        return;
    }
    let mut names = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        match part.parse::<u32>() {
            Ok(code) if (100..600).contains(&code) => policy.retriable_status_codes.push(code),
            _ => names.push(part),
        }
    }
    if !policy.retriable_status_codes.is_empty() && !names.contains(&"retriable-status-codes") {
        names.push("retriable-status-codes");
    }
    policy.retry_on = names.join(",");
}

fn other_hosts() -> Vec<retry_policy::RetryHostPredicate> {
    vec![retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(proto::any(
            &PreviousHostsPredicate {},
        ))),
    }]
}
