//! What a route does: redirect, direct response, mirror, fault, cross-origin policy.

use api::names::GRPC_STATUS;
use api::networking::virtual_service::{CorsPolicy, DirectResponse, FaultInjection, HttpRedirect, HttpRoute, Percent};
use xds::envoy::config::core::v3 as core;
use xds::envoy::config::route::v3::{self as route_v3, redirect_action, route};
use xds::envoy::extensions::filters::common::fault::v3 as fault_common;
use xds::envoy::extensions::filters::http::{cors::v3 as cors, fault::v3 as fault};
use xds::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};

use crate::proto;
use crate::tls;

pub(super) fn redirect(setting: &HttpRedirect, listener_port: u16, is_tls: bool) -> Option<route::Action> {
    let code = match setting.redirect_code.0 {
        0 | 301 => redirect_action::RedirectResponseCode::MovedPermanently,
        302 => redirect_action::RedirectResponseCode::Found,
        303 => redirect_action::RedirectResponseCode::SeeOther,
        307 => redirect_action::RedirectResponseCode::TemporaryRedirect,
        308 => redirect_action::RedirectResponseCode::PermanentRedirect,
        _ => return None,
    };
    let mut port = match (setting.port, setting.derive_port.as_deref()) {
        (Some(port), _) => port.0,
        (None, Some("FROM_REQUEST_PORT")) => u32::from(listener_port),
        _ => 0,
    };
    let scheme = match setting.scheme.as_str() {
        "" if is_tls => "https",
        "" => "http",
        scheme => scheme,
    };
    if (port == 80 && scheme == "http") || (port == 443 && scheme == "https") {
        port = 0;
    }
    Some(route::Action::Redirect(route_v3::RedirectAction {
        host_redirect: setting.authority.clone(),
        port_redirect: port,
        response_code: code as i32,
        path_rewrite_specifier: Some(redirect_action::PathRewriteSpecifier::PathRedirect(setting.uri.clone())),
        scheme_rewrite_specifier: (!setting.scheme.is_empty())
            .then(|| redirect_action::SchemeRewriteSpecifier::SchemeRedirect(setting.scheme.clone())),
        ..Default::default()
    }))
}

pub(super) fn direct_response(setting: &DirectResponse) -> route::Action {
    let specifier = setting
        .body
        .as_ref()
        .and_then(|body| match (&body.string, &body.bytes) {
            (Some(text), _) => Some(core::data_source::Specifier::InlineString(text.clone())),
            (None, Some(bytes)) => decode_base64(bytes).map(core::data_source::Specifier::InlineBytes),
            _ => None,
        });
    route::Action::DirectResponse(route_v3::DirectResponseAction {
        status: setting.status.0,
        body: specifier.map(|s| core::DataSource {
            specifier: Some(s),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// Standard base64; none for anything else.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0u32);
    for c in text.bytes().filter(|c| *c != b'=' && !c.is_ascii_whitespace()) {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

/// Mirrors: cluster and share.
pub(super) fn mirror(cluster: String, share: FractionalPercent) -> route_v3::route_action::RequestMirrorPolicy {
    route_v3::route_action::RequestMirrorPolicy {
        cluster,
        runtime_fraction: Some(core::RuntimeFractionalPercent {
            default_value: Some(share),
            ..Default::default()
        }),
        trace_sampled: Some(proto::bool_value(false)),
        disable_shadow_host_suffix_append: true,
        ..Default::default()
    }
}

/// Share of requests that `mirror` copies; none for a share of zero.
pub(super) fn mirror_share(route: &HttpRoute) -> Option<FractionalPercent> {
    match (&route.mirror_percentage, route.mirror_percent) {
        (Some(percent), _) => share(percent),
        (None, Some(percent)) => (percent.0 > 0).then(|| hundredths(percent.0)),
        (None, None) => Some(hundredths(100)),
    }
}

/// A share of requests; none for zero.
pub(super) fn share(percent: &Percent) -> Option<FractionalPercent> {
    (percent.value.0 > 0.0).then(|| millionths(percent))
}

pub(super) fn hundredths(numerator: u32) -> FractionalPercent {
    FractionalPercent {
        numerator,
        denominator: DenominatorType::Hundred as i32,
    }
}

fn millionths(percent: &Percent) -> FractionalPercent {
    FractionalPercent {
        numerator: (percent.value.0 * 10_000.0).clamp(0.0, 1_000_000.0) as u32,
        denominator: DenominatorType::Million as i32,
    }
}

pub(super) fn fault(setting: &FaultInjection) -> fault::HttpFault {
    let delay = setting.delay.as_ref().and_then(|delay| {
        let fixed = delay.fixed_delay?;
        Some(fault_common::FaultDelay {
            percentage: Some(match &delay.percentage {
                Some(percent) => millionths(percent),
                None => hundredths(delay.percent.map_or(0, |p| u32::try_from(p.0).unwrap_or_default())),
            }),
            fault_delay_secifier: Some(fault_common::fault_delay::FaultDelaySecifier::FixedDelay(
                proto::duration(fixed),
            )),
        })
    });
    let abort = setting.abort.as_ref().and_then(|abort| {
        let error = match (&abort.http_status, &abort.grpc_status) {
            (Some(status), _) => fault::fault_abort::ErrorType::HttpStatus(u32::try_from(status.0).ok()?),
            (None, Some(name)) => fault::fault_abort::ErrorType::GrpcStatus(grpc_code(name)?),
            _ => return None,
        };
        Some(fault::FaultAbort {
            percentage: abort.percentage.as_ref().map(millionths),
            error_type: Some(error),
            ..Default::default()
        })
    });
    fault::HttpFault {
        delay,
        abort,
        ..Default::default()
    }
}

/// Number of a gRPC status by its name.
fn grpc_code(name: &str) -> Option<u32> {
    GRPC_STATUS.iter().position(|n| *n == name).map(|code| code as u32)
}

pub(super) fn cors(setting: &CorsPolicy) -> cors::CorsPolicy {
    let origins = if setting.allow_origins.is_empty() {
        setting.allow_origin.iter().map(|o| tls::exact(o)).collect()
    } else {
        setting
            .allow_origins
            .iter()
            .filter_map(super::condition::string)
            .collect()
    };
    cors::CorsPolicy {
        allow_origin_string_match: origins,
        allow_methods: setting.allow_methods.join(","),
        allow_headers: setting.allow_headers.join(","),
        expose_headers: setting.expose_headers.join(","),
        max_age: setting.max_age.map(|age| age.seconds.to_string()).unwrap_or_default(),
        allow_credentials: setting.allow_credentials.map(proto::bool_value),
        filter_enabled: Some(core::RuntimeFractionalPercent {
            default_value: Some(hundredths(100)),
            ..Default::default()
        }),
        forward_not_matching_preflights: Some(proto::bool_value(
            setting.unmatched_preflights.as_deref() != Some("IGNORE"),
        )),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding() {
        assert_eq!(decode_base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(decode_base64("aGVsbG8").as_deref(), Some(&b"hello"[..]));
        assert_eq!(decode_base64("%"), None);
    }
}
