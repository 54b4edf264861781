//! Which statistics Envoy keeps, and which tags it reads out of their names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Context;
use crate::settings::parse_duration;

/// Tags before the user's own.
const TAGS: [(&str, &str); 9] = [
    ("cluster_name", r"^cluster(\.(.+);)"),
    (
        "http_conn_manager_prefix",
        r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)",
    ),
    ("thread_name", r"^server(\.(.+))\.watchdog"),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    (
        "http_conn_manager_listener_prefix",
        r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "listener_address",
        r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "mongo_prefix",
        r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$",
    ),
];

/// Tags after the user's own.
const LAST_TAGS: [(&str, &str); 7] = [
    ("cache", r"(cache\.(.+?)\.)"),
    ("component", r"(component\.(.+?)\.)"),
    ("tag", r"(tag\.(.+?);\.)"),
    ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
    ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
    ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
];

/// Kept always: readiness and `proxy-status` need them.
const PREFIXES: &str = "cluster_manager,listener_manager,server,cluster.xds-grpc,wasm";
const SUFFIXES: &str = "rbac.allowed,rbac.denied,shadow_allowed,shadow_denied";
/// Needed to see when a draining proxy is idle.
const DRAIN_SUFFIX: &str = ",downstream_cx_active";
const REGEXES: &str = r"vhost\..*\.route\..*";

pub(super) fn config(cx: &Context<'_>) -> Value {
    let mut config = Map::new();
    config.insert("use_all_default_tags".to_owned(), false.into());
    config.insert("stats_tags".to_owned(), tags(cx));
    if let Some(buckets) = histogram_buckets(cx) {
        config.insert("histogram_bucket_settings".to_owned(), buckets);
    }
    config.insert(
        "stats_matcher".to_owned(),
        json!({ "inclusion_list": { "patterns": patterns(cx) } }),
    );
    config.into()
}

fn tags(cx: &Context<'_>) -> Value {
    let mut extra = cx.config.list(cx.config.get("extraStatTags"));
    extra.extend(annotation(cx, "extraStatTags").split(',').map(str::to_owned));
    let mut seen = std::collections::BTreeSet::new();
    // The tag becomes part of a regular expression: only plain names are taken.
    let plain = |t: &String| !t.is_empty() && t.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    extra.retain(|t| plain(t) && seen.insert(t.clone()));
    let tag = |name: &str, regex: &str| json!({ "tag_name": name, "regex": regex });
    let own = extra.iter().map(|t| tag(t, &format!(r"({t}=\.=(.*?);\.;)")));
    let tags: Vec<Value> = TAGS.iter().map(|(n, r)| tag(n, r)).chain(own).collect();
    tags.into_iter()
        .chain(LAST_TAGS.iter().map(|(n, r)| tag(n, r)))
        .collect()
}

fn annotation<'a>(cx: &'a Context<'_>, name: &str) -> &'a str {
    cx.node
        .annotations
        .get(&format!("sidecar.istio.io/{name}"))
        .map(String::as_str)
        .unwrap_or_default()
}

/// What the annotation asks for, else the proxy's configuration; then what is always kept.
fn inclusions(cx: &Context<'_>, name: &str, field: &str, required: &str) -> Vec<String> {
    let asked = annotation(cx, name);
    let asked: Vec<String> = if asked.is_empty() {
        cx.config
            .list(cx.config.get("proxyStatsMatcher").and_then(|m| m.get(field)))
    } else {
        asked.split(',').map(str::to_owned).collect()
    };
    let all = asked.into_iter().chain(required.split(',').map(str::to_owned));
    all.flat_map(|pattern| substitute(pattern, &cx.node.instance_ips))
        .collect()
}

/// `{pod_ip}` stands for each address of the pod.
fn substitute(pattern: String, ips: &[IpAddr]) -> Vec<String> {
    if pattern.contains("{pod_ip}") {
        ips.iter()
            .map(|ip| pattern.replace("{pod_ip}", &ip.to_string()))
            .collect()
    } else {
        vec![pattern]
    }
}

fn patterns(cx: &Context<'_>) -> Vec<Value> {
    let mut patterns = vec![json!({ "prefix": "reporter=" })];
    if cx.node.flag("METADATA_DISCOVERY") {
        patterns.push(json!({ "prefix": "workload_discovery" }));
    }
    let draining = cx.node.flag("EXIT_ON_ZERO_ACTIVE_CONNECTIONS");
    let suffixes = format!("{SUFFIXES}{}", if draining { DRAIN_SUFFIX } else { "" });
    let prefixes = inclusions(cx, "statsInclusionPrefixes", "inclusionPrefixes", PREFIXES);
    patterns.extend(prefixes.iter().map(|p| json!({ "prefix": p })));
    let suffixes = inclusions(cx, "statsInclusionSuffixes", "inclusionSuffixes", &suffixes);
    patterns.extend(suffixes.iter().map(|s| json!({ "suffix": s })));
    let regexes = inclusions(cx, "statsInclusionRegexps", "inclusionRegexps", REGEXES);
    patterns.extend(regexes.iter().map(|r| json!({ "safe_regex": { "regex": r } })));
    patterns.extend([json!({ "prefix": "component" }), json!({ "prefix": "istio" })]);
    patterns
}

fn histogram_buckets(cx: &Context<'_>) -> Option<Value> {
    let text = annotation(cx, "statsHistogramBuckets");
    if text.is_empty() {
        return None;
    }
    match serde_json::from_str::<BTreeMap<String, Vec<Value>>>(text) {
        Ok(buckets) => {
            let one =
                |(prefix, bounds): (String, Vec<Value>)| json!({ "match": { "prefix": prefix }, "buckets": bounds });
            Some(buckets.into_iter().map(one).collect())
        }
        Err(error) => {
            tracing::warn!(%error, "annotation sidecar.istio.io/statsHistogramBuckets is ignored");
            None
        }
    }
}

/// Flush and eviction intervals, where annotations set them.
pub(super) fn intervals(cx: &Context<'_>) -> Map<String, Value> {
    let mut fields = Map::new();
    let read = |name: &str| {
        let text = annotation(cx, name);
        let parsed = parse_duration(text);
        if parsed.is_none() && !text.is_empty() {
            tracing::warn!("annotation sidecar.istio.io/{name}={text:?} is no duration and is ignored");
        }
        parsed
    };
    let flush = read("statsFlushInterval");
    if let Some(flush) = flush {
        fields.insert("stats_flush_interval".to_owned(), seconds(flush).into());
    }
    if let Some(eviction) = read("statsEvictionInterval") {
        let flush = flush.unwrap_or(Duration::from_secs(5)).as_nanos().max(1);
        if eviction.as_nanos() % flush == 0 {
            fields.insert("stats_eviction_interval".to_owned(), seconds(eviction).into());
        } else {
            tracing::warn!("the statistics' eviction interval must be a multiple of the flush interval");
        }
    }
    fields
}

/// In protobuf's JSON form.
fn seconds(d: Duration) -> String {
    if d.subsec_nanos() == 0 {
        format!("{}s", d.as_secs())
    } else {
        format!("{}.{:09}s", d.as_secs(), d.subsec_nanos())
    }
}
