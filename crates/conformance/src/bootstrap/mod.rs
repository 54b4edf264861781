//! Golden set `bootstrap`: ProxyConfig, environment and annotations → Envoy's bootstrap, compared as messages.

mod text_proto;

use std::collections::BTreeMap;
use std::path::Path;

use pilot_agent::bootstrap::{Options, render};
use pilot_agent::node::{self, Facts};
use pilot_agent::proxy_config::ProxyConfig;
use pilot_agent::settings::Environment;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use xds::envoy::config::bootstrap::v3::Bootstrap;

use crate::data::{cases, read, yaml};
use crate::report;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    proxy_config: String,
    golden: String,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    proxy_metadata: BTreeMap<String, String>,
    #[serde(default)]
    compliance_policy: String,
    #[serde(default)]
    check_locality: bool,
    #[serde(default)]
    secure_metrics_port: u16,
    #[serde(default)]
    secure_merged_metrics_port: u16,
    #[serde(default)]
    expected_stats_inclusion: Inclusion,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Inclusion {
    prefixes: String,
    suffixes: String,
    regexps: String,
}

/// `common.yaml`: what all cases share.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    node: CommonNode,
    pilot_subject_alt_name: Vec<String>,
    outlier_log_path: String,
    envoy_prometheus_port: u16,
    envoy_status_port: u16,
    workload_identity_socket_file: String,
    binary_version: String,
}

#[derive(Deserialize)]
struct CommonNode {
    id: String,
    #[serde(rename = "instanceIPs")]
    instance_ips: Vec<std::net::IpAddr>,
}

/// Runs every case of `<data>/bootstrap`.
///
/// # Errors
/// If the set itself cannot be read.
pub fn run(data: &Path) -> Result<Vec<report::Case>, String> {
    let folder = data.join("bootstrap");
    let common: Common = yaml(&folder.join("common.yaml"))?;
    let cases: Vec<Case> = cases(&folder.join("cases.yaml"))?;
    let one = |case: Case| {
        let outcome = run_case(&folder, &common, &case);
        report::Case::new(format!("bootstrap/{}", case.name), outcome)
    };
    Ok(cases.into_iter().map(one).collect())
}

fn run_case(folder: &Path, common: &Common, case: &Case) -> Result<(), String> {
    let mut config = text_proto::parse(&read(&folder.join(&case.proxy_config))?)?;
    config.insert(
        "configPath".into(),
        format!("/tmp/bootstrap/{}", case.proxy_config.trim_end_matches(".proxycfg")).into(),
    );
    config.insert("customConfigFile".into(), "envoy_bootstrap.json".into());
    config.entry("statusPort").or_insert(15020.into());
    if !case.proxy_metadata.is_empty() {
        config.insert("proxyMetadata".into(), json!(case.proxy_metadata));
    }
    config.sort_keys();
    let config = ProxyConfig::from_json(config);
    let mut env = Environment::from([("ISTIO_METAJSON_LABELS".to_owned(), "{}".to_owned())]);
    if !case.annotations.is_empty() {
        env.insert("ISTIO_METAJSON_ANNOTATIONS".into(), json!(case.annotations).to_string());
    }
    env.extend(case.env_vars.clone());
    let facts = Facts {
        id: common.node.id.clone(),
        instance_ips: common.node.instance_ips.clone(),
        labels: None,
        annotations: (!case.annotations.is_empty()).then(|| case.annotations.clone()),
        pilot_san: common.pilot_subject_alt_name.clone(),
        outlier_log_path: common.outlier_log_path.clone(),
        envoy_status_port: common.envoy_status_port,
        envoy_prometheus_port: common.envoy_prometheus_port,
        secure_metrics_port: case.secure_metrics_port,
        secure_merged_metrics_port: case.secure_merged_metrics_port,
        exit_on_zero_connections: false,
        skip_deprecated_logs: false,
        metadata_discovery: None,
        sds_socket: common.workload_identity_socket_file.clone(),
        version: common.binary_version.clone(),
    };
    let node = node::node(&env, &config, &facts);
    let options = Options {
        compliance_policy: case.compliance_policy.clone(),
        ..Options::default()
    };
    let produced = render(&node, &config, &options).map_err(|e| e.to_string())?;
    let golden = serde_json::from_str(&read(&folder.join(&case.golden))?).map_err(|e| e.to_string())?;
    compare_stats(&produced, &case.expected_stats_inclusion)?;
    compare(&normal(golden, case)?, &normal(produced, case)?, "")
}

/// As a message and back, without what is compared separately.
fn normal(mut bootstrap: Value, case: &Case) -> Result<Value, String> {
    let endpoint = "/static_resources/clusters";
    for cluster in bootstrap
        .pointer_mut(endpoint)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let path = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path";
        if let Some(path) = cluster
            .pointer_mut(path)
            .filter(|p| p.as_str().is_some_and(|p| p.ends_with("/XDS")))
        {
            *path = "/tmp/XDS".into();
        }
    }
    keep_unknown(&mut bootstrap);
    let message: Bootstrap = xds::json::from_json(&bootstrap).map_err(|e| format!("not a Bootstrap: {e}"))?;
    let mut json = xds::json::to_json(&message).map_err(|e| e.to_string())?;
    if let Some(stats) = json.pointer_mut("/statsConfig").and_then(Value::as_object_mut) {
        stats.remove("statsMatcher");
    }
    if let Some(metadata) = json.pointer_mut("/node/metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !key.starts_with("sidecar.istio.io/statsInclusion"));
    }
    if let Some(locality) = json.pointer_mut("/node/locality").and_then(Value::as_object_mut)
        && !case.check_locality
    {
        locality.retain(|key, _| key == "subZone");
    }
    Ok(json)
}

/// Extensions that this build has no message for are compared as JSON: kept as a Struct in their `Any`.
fn keep_unknown(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(keep_unknown);
            let kind = fields.get("@type").and_then(Value::as_str).map(xds::json::type_name);
            if kind.is_some_and(|k| xds::json::descriptors().get_message_by_name(k).is_none()) {
                let mut kept = std::mem::take(fields);
                let kind = kept.remove("@type").unwrap_or_default();
                kept.insert("type".into(), kind);
                *value = json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": kept });
            }
        }
        Value::Array(items) => items.iter_mut().for_each(keep_unknown),
        _ => {}
    }
}

/// The inclusion lists are the standard ones and what the case expects.
fn compare_stats(bootstrap: &Value, expected: &Inclusion) -> Result<(), String> {
    let patterns = bootstrap.pointer("/stats_config/stats_matcher/inclusion_list/patterns");
    let patterns = patterns.and_then(Value::as_array).ok_or("no stats matcher")?;
    let found = |path: &str| -> Vec<&str> {
        patterns
            .iter()
            .filter_map(|p| p.pointer(path))
            .filter_map(Value::as_str)
            .collect()
    };
    for (path, own, standard) in [
        (
            "/prefix",
            &expected.prefixes,
            "reporter=,cluster_manager,listener_manager,server,cluster.xds-grpc,wasm,component,istio",
        ),
        (
            "/suffix",
            &expected.suffixes,
            "rbac.allowed,rbac.denied,shadow_allowed,shadow_denied",
        ),
        ("/safe_regex/regex", &expected.regexps, r"vhost\..*\.route\..*"),
    ] {
        let mut wanted: Vec<&str> = own
            .split(',')
            .chain(standard.split(','))
            .filter(|s| !s.is_empty())
            .collect();
        let mut there = found(path);
        wanted.sort_unstable();
        there.sort_unstable();
        if wanted != there {
            return Err(format!("stats matcher {path}: expected {wanted:?}, got {there:?}"));
        }
    }
    Ok(())
}

/// The first place where two values differ.
fn compare(golden: &Value, produced: &Value, path: &str) -> Result<(), String> {
    match (golden, produced) {
        (Value::Object(g), Value::Object(p)) => {
            let none = Value::Null;
            let keys: Map<String, Value> = g.iter().chain(p).map(|(k, _)| (k.clone(), Value::Null)).collect();
            let get = |map: &Map<String, Value>, key: &str| map.get(key).unwrap_or(&none).clone();
            keys.keys()
                .try_for_each(|k| compare(&get(g, k), &get(p, k), &format!("{path}/{k}")))
        }
        (Value::Array(g), Value::Array(p)) if g.len() == p.len() => g
            .iter()
            .zip(p)
            .enumerate()
            .try_for_each(|(i, (g, p))| compare(g, p, &format!("{path}/{i}"))),
        (g, p) if g == p => Ok(()),
        (g, p) => Err(format!("{path}: expected {g}, got {p}")),
    }
}
