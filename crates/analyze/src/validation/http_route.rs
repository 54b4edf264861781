//! Routes of HTTP in virtual services.

use std::collections::BTreeMap;

use api::names::GRPC_STATUS;
use api::networking::virtual_service::{
    CorsPolicy, FaultInjection, Headers, HttpMatch, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute, Percent,
    StringMatch,
};
use serde_json::Value;

use super::field::{Problems, check_duration, check_labels, check_percent, check_port_number, check_regex};
use super::virtual_service::{check_destination, check_gateways, check_required_destination, check_weights};
use super::{header_value, name};

/// Largest answer that a proxy gives by itself, and the size from which it is worth a warning.
const LARGEST_BODY: usize = 1 << 20;
const LARGE_BODY: usize = 100 << 10;
/// Headers that stand for parts of the request line.
const PSEUDO_HEADERS: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];
/// Methods that may be allowed across origins.
const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
];
/// What a request may be tried again for, beside numbers of HTTP.
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// A route, as it is read and as it is written: translation does not know all fields yet.
pub(super) fn check(field: &str, route: &HttpRoute, written: &Value, delegated: bool, problems: &mut Problems) {
    actions(field, route, delegated, problems);
    for (index, single) in route.matches.iter().enumerate() {
        check_match(&format!("{field}.match[{index}]"), single, problems);
    }
    check_headers(&format!("{field}.headers"), route.headers.as_ref(), problems);
    if let Some(cors) = &route.cors_policy {
        check_cors(&format!("{field}.corsPolicy"), cors, problems);
    }
    if let Some(fault) = &route.fault {
        check_fault(&format!("{field}.fault"), fault, problems);
    }
    mirrors(field, route, problems);
    if let Some(redirect) = &route.redirect {
        let prefix = written["redirect"]["prefixRewrite"].as_str().unwrap_or_default();
        check_redirect(&format!("{field}.redirect"), redirect, prefix, &route.matches, problems);
    }
    if let Some(response) = &route.direct_response {
        check_status(&format!("{field}.directResponse.status"), response.status.0, problems);
        let body = response.body.as_ref();
        let size = body.map_or(0, |body| {
            let encoded = body.bytes.as_ref().map_or(0, |bytes| bytes.len() / 4 * 3);
            body.string.as_ref().map_or(encoded, String::len)
        });
        if size > LARGEST_BODY {
            problems.add(format!("{field}.directResponse.body"), "must be less than 1MB");
        } else if size > LARGE_BODY {
            problems.warn(
                format!("{field}.directResponse.body"),
                "large direct responses may impact control plane performance",
            );
        }
    }
    if let Some(retries) = &route.retries {
        check_retries(&format!("{field}.retries"), retries, problems);
    }
    if let Some(rewrite) = &route.rewrite {
        check_rewrite(&format!("{field}.rewrite"), rewrite, problems);
    }
    authorities(field, route, problems);
    check_weights(field, route.route.iter().map(|route| route.weight.0), problems);
    for (index, route) in route.route.iter().enumerate() {
        let field = format!("{field}.route[{index}]");
        check_required_destination(&format!("{field}.destination"), route.destination.as_ref(), problems);
        check_headers(&format!("{field}.headers"), route.headers.as_ref(), problems);
    }
    check_duration(problems, &format!("{field}.timeout"), route.timeout);
}

/// What becomes of a request: one thing.
fn actions(field: &str, route: &HttpRoute, delegated: bool, problems: &mut Problems) {
    if route.delegate.is_some() && !delegated {
        problems.require(
            route.redirect.is_none() && route.route.is_empty(),
            field,
            "a route that delegates cannot have route or redirect",
        );
        return;
    }
    problems.require(
        route.delegate.is_none(),
        format!("{field}.delegate"),
        "a delegate cannot delegate further",
    );
    let routes = !route.route.is_empty();
    let answers = [
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
    ];
    let others = [
        ("route", routes),
        ("fault", route.fault.is_some()),
        ("rewrite", route.rewrite.is_some()),
    ];
    let is_answered = answers.iter().any(|(_, given)| *given);
    problems.require(
        is_answered || routes,
        field,
        "HTTP route, redirect or direct_response is required",
    );
    problems.require(
        !answers.iter().all(|(_, given)| *given),
        field,
        "HTTP route cannot have both redirect and directResponse",
    );
    for (answer, _) in answers.iter().filter(|(_, given)| *given) {
        for (other, _) in others.iter().filter(|(_, given)| *given) {
            problems.add(field, format!("HTTP route cannot have both {other} and {answer}"));
        }
    }
    problems.require(
        route.mirror.is_none() || route.mirrors.is_empty(),
        field,
        "HTTP route cannot have both mirror and mirrors",
    );
}

fn check_match(field: &str, single: &HttpMatch, problems: &mut Problems) {
    // A path may begin with anything; the others would match nothing in particular.
    if let Some(uri) = &single.uri {
        check_pattern(&format!("{field}.uri"), uri, problems);
    }
    let parts = [
        ("scheme", &single.scheme),
        ("method", &single.method),
        ("authority", &single.authority),
    ];
    for (name, text) in parts {
        if let Some(text) = text {
            check_text(&format!("{field}.{name}"), text, problems);
        }
    }
    for (name, text) in &single.query_params {
        check_text(&format!("{field}.queryParams[{name}]"), text, problems);
    }
    for (name, text) in &single.headers {
        check_match_name(&format!("{field}.headers"), name, problems);
        check_text(&format!("{field}.headers[{name}]"), text, problems);
    }
    for (name, text) in &single.without_headers {
        check_match_name(&format!("{field}.withoutHeaders"), name, problems);
        // A lone `*` is no expression: the header is there.
        if text.regex.as_deref() != Some("*") {
            check_text(&format!("{field}.withoutHeaders[{name}]"), text, problems);
        }
    }
    if let Some(port) = single.port.filter(|port| port.0 != 0) {
        check_port_number(problems, &format!("{field}.port"), port.0);
    }
    check_labels(problems, &format!("{field}.sourceLabels"), &single.source_labels);
    check_gateways(&format!("{field}.gateways"), &single.gateways, problems);
    problems.require(
        single.source_namespace.is_empty() || name::is_label(&single.source_namespace),
        format!("{field}.sourceNamespace"),
        format!("{:?} is no namespace", single.source_namespace),
    );
}

/// `@request.auth.claims.name` or `@request.auth.claims[name]`: a claim of a token.
pub(crate) fn is_claim(name: &str) -> bool {
    const PREFIX: &str = "@request.auth.claims";
    let is_prefixed = name
        .get(..PREFIX.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX));
    is_prefixed
        && match name.split_at(PREFIX.len()).1 {
            rest if rest.starts_with('.') => rest.len() > 1,
            rest => rest.starts_with('[') && rest.ends_with(']') && rest.len() > 2,
        }
}

fn check_match_name(field: &str, name: &str, problems: &mut Problems) {
    problems.require(!name.is_empty(), field, "a header name is required");
    let known = name.is_empty() || is_claim(name) || PSEUDO_HEADERS.contains(&name) || name::is_header(name);
    problems.require(known, field, format!("{name:?} is no name of a header"));
}

fn check_text(field: &str, text: &StringMatch, problems: &mut Problems) {
    problems.require(
        text.prefix.as_deref() != Some(""),
        field,
        "an empty prefix matches everything; leave it out",
    );
    check_pattern(field, text, problems);
}

fn check_pattern(field: &str, text: &StringMatch, problems: &mut Problems) {
    match text.regex.as_deref() {
        Some("") => problems.add(field, "an empty regular expression matches nothing useful"),
        Some(pattern) => check_regex(problems, field, pattern),
        None => {}
    }
}

/// Changes of headers. The authority of a request may be set, but neither be removed nor be of a response.
fn check_headers(field: &str, headers: Option<&Headers>, problems: &mut Problems) {
    let Some(headers) = headers else { return };
    for (direction, operations) in [("request", &headers.request), ("response", &headers.response)] {
        let Some(operations) = operations else { continue };
        let is_request = direction == "request";
        for (operation, values) in [("add", &operations.add), ("set", &operations.set)] {
            for (name, value) in values {
                let field = format!("{field}.{direction}.{operation}[{name}]");
                check_changed(&field, name, is_request, problems);
                if let Err(why) = header_value::check(value) {
                    problems.add(field, format!("{value:?} is no value of a header: {why}"));
                }
            }
        }
        for name in &operations.remove {
            check_changed(&format!("{field}.{direction}.remove"), name, false, problems);
        }
    }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

fn check_changed(field: &str, name: &str, may_be_authority: bool, problems: &mut Problems) {
    problems.require(!name.is_empty(), field, "a header name is required");
    let internal = name.starts_with(':') || name.eq_ignore_ascii_case("host");
    problems.require(
        !internal || (may_be_authority && is_authority(name)),
        field,
        format!("{name:?} cannot be changed here"),
    );
}

/// The authority is set once.
fn authorities(field: &str, route: &HttpRoute, problems: &mut Problems) {
    let request = route.headers.as_ref().and_then(|headers| headers.request.as_ref());
    let of = |values: &BTreeMap<String, String>| values.keys().filter(|name| is_authority(name)).count();
    let by_headers = request.map_or(0, |request| of(&request.set) + of(&request.add));
    let by_rewrite = route
        .rewrite
        .as_ref()
        .is_some_and(|rewrite| !rewrite.authority.is_empty());
    problems.require(
        by_headers + usize::from(by_rewrite) < 2,
        format!("{field}.headers.request"),
        "the authority cannot be set more than once",
    );
}

fn check_cors(field: &str, cors: &CorsPolicy, problems: &mut Problems) {
    for (index, origin) in cors.allow_origins.iter().enumerate() {
        let field = format!("{field}.allowOrigins[{index}]");
        let given = [&origin.exact, &origin.prefix, &origin.regex];
        let empty = given.iter().all(|text| text.as_deref().unwrap_or_default().is_empty());
        problems.require(!empty, &field, "an origin must not be empty");
        if !empty {
            check_pattern(&field, origin, problems);
        }
    }
    for method in &cors.allow_methods {
        problems.require(
            METHODS.contains(&method.as_str()),
            format!("{field}.allowMethods"),
            format!("{method:?} is not a supported HTTP method"),
        );
    }
    for (list, headers) in [
        ("allowHeaders", &cors.allow_headers),
        ("exposeHeaders", &cors.expose_headers),
    ] {
        for header in headers {
            problems.require(
                name::is_header(header),
                format!("{field}.{list}"),
                format!("{header:?} is no name of a header"),
            );
        }
    }
    check_duration(problems, &format!("{field}.maxAge"), cors.max_age);
    problems.require(
        cors.max_age.is_none_or(|age| age.nanos == 0),
        format!("{field}.maxAge"),
        "must be whole seconds",
    );
}

fn check_status(field: &str, status: u32, problems: &mut Problems) {
    problems.require(
        (200..=600).contains(&status),
        field,
        format!("{status} is no final HTTP status"),
    );
}

fn check_share(field: &str, percent: Option<&Percent>, problems: &mut Problems) {
    let Some(percent) = percent else { return };
    let value = percent.value.0;
    problems.require(
        value == 0.0 || (0.0001..=100.0).contains(&value),
        field,
        "must be 0, or between 0.0001 and 100",
    );
}

fn check_fault(field: &str, fault: &FaultInjection, problems: &mut Problems) {
    problems.require(
        fault.abort.is_some() || fault.delay.is_some(),
        field,
        "HTTP fault injection must have an abort or a delay",
    );
    if let Some(abort) = &fault.abort {
        check_share(
            &format!("{field}.abort.percentage"),
            abort.percentage.as_ref(),
            problems,
        );
        match (abort.http_status, &abort.grpc_status) {
            (Some(status), _) => {
                let status = u32::try_from(status.0).unwrap_or_default();
                check_status(&format!("{field}.abort.httpStatus"), status, problems);
            }
            (None, Some(status)) => problems.require(
                GRPC_STATUS.contains(&status.as_str()),
                format!("{field}.abort.grpcStatus"),
                format!("gRPC status {status:?} is not known; write for example NOT_FOUND"),
            ),
            (None, None) => problems.warn(format!("{field}.abort"), "has no status, so nothing is aborted"),
        }
    }
    if let Some(delay) = &fault.delay {
        check_share(
            &format!("{field}.delay.percentage"),
            delay.percentage.as_ref(),
            problems,
        );
        check_duration(problems, &format!("{field}.delay.fixedDelay"), delay.fixed_delay);
    }
}

fn mirrors(field: &str, route: &HttpRoute, problems: &mut Problems) {
    if let Some(percent) = route.mirror_percent {
        check_percent(problems, &format!("{field}.mirrorPercent"), f64::from(percent.0));
        problems.warn(
            format!("{field}.mirrorPercent"),
            "using deprecated setting \"mirrorPercent\", use \"mirrorPercentage\" instead",
        );
    }
    if let Some(percentage) = &route.mirror_percentage {
        check_percent(problems, &format!("{field}.mirrorPercentage"), percentage.value.0);
    }
    if let Some(mirror) = &route.mirror {
        check_destination(&format!("{field}.mirror"), mirror, problems);
    }
    for (index, mirror) in route.mirrors.iter().enumerate() {
        let field = format!("{field}.mirrors[{index}]");
        check_required_destination(&format!("{field}.destination"), mirror.destination.as_ref(), problems);
        if let Some(percentage) = &mirror.percentage {
            check_percent(problems, &format!("{field}.percentage"), percentage.value.0);
        }
    }
}

fn check_redirect(field: &str, redirect: &HttpRedirect, prefix: &str, matches: &[HttpMatch], problems: &mut Problems) {
    problems.require(
        redirect.uri.is_empty() || prefix.is_empty(),
        field,
        "redirect may only specify one of uri and prefixRewrite",
    );
    let by_prefix = |single: &HttpMatch| single.uri.as_ref().is_none_or(|uri| uri.prefix.is_some());
    problems.require(
        prefix.is_empty() || matches.iter().all(by_prefix),
        format!("{field}.prefixRewrite"),
        "requires that all matches of the uri are by prefix",
    );
    let given = !redirect.uri.is_empty()
        || !prefix.is_empty()
        || !redirect.authority.is_empty()
        || !redirect.scheme.is_empty()
        || redirect.port.is_some()
        || redirect.derive_port.is_some();
    problems.require(
        given,
        field,
        "redirect must specify uri, prefixRewrite, authority, scheme, or port",
    );
    let code = redirect.redirect_code.0;
    problems.require(
        code == 0 || (300..=399).contains(&code),
        format!("{field}.redirectCode"),
        format!("{code} is not a valid redirect code, must be 3xx"),
    );
    problems.require(
        matches!(redirect.scheme.as_str(), "" | "http" | "https"),
        format!("{field}.scheme"),
        "invalid redirect scheme, must be \"http\" or \"https\"",
    );
    if let Some(port) = redirect.port.filter(|port| port.0 != 0) {
        check_port_number(problems, &format!("{field}.port"), port.0);
    }
}

fn check_retries(field: &str, retries: &HttpRetry, problems: &mut Problems) {
    problems.require(
        retries.attempts.0 >= 0,
        format!("{field}.attempts"),
        "attempts cannot be negative",
    );
    let configured =
        retries.per_try_timeout.is_some() || !retries.retry_on.is_empty() || retries.retry_remote_localities.is_some();
    problems.require(
        retries.attempts.0 != 0 || !configured,
        format!("{field}.attempts"),
        "http retry policy configured when attempts are set to 0 (disabled)",
    );
    check_duration(problems, &format!("{field}.perTryTimeout"), retries.per_try_timeout);
    for reason in retries.retry_on.split(',').filter(|_| !retries.retry_on.is_empty()) {
        let known = RETRY_ON.contains(&reason) || reason.parse().is_ok_and(is_status);
        problems.require(
            known,
            format!("{field}.retryOn"),
            format!("{reason:?} is not a valid retryOn policy"),
        );
    }
    check_duration(problems, &format!("{field}.backoff"), retries.backoff);
}

/// Is there an HTTP status of that number?
fn is_status(number: u16) -> bool {
    matches!(
        number,
        100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511
    )
}

fn check_rewrite(field: &str, rewrite: &HttpRewrite, problems: &mut Problems) {
    let regex = rewrite.uri_regex_rewrite.as_ref();
    problems.require(
        rewrite.uri.is_empty() || regex.is_none(),
        field,
        "rewrite may only contain one of uri and uriRegexRewrite",
    );
    problems.require(
        !rewrite.uri.is_empty() || !rewrite.authority.is_empty() || regex.is_some(),
        field,
        "rewrite must specify uri, uriRegexRewrite or authority",
    );
    let Some(regex) = regex else { return };
    problems.require(
        !regex.pattern.is_empty() && !regex.rewrite.is_empty(),
        format!("{field}.uriRegexRewrite"),
        "uriRegexRewrite requires both match and rewrite",
    );
    check_regex(problems, &format!("{field}.uriRegexRewrite.match"), &regex.pattern);
}
