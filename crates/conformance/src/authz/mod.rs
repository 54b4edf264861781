//! Golden set `authz`: AuthorizationPolicies in, RBAC and `ext_authz` filters out.

use std::path::Path;

use api::mesh_config::MeshConfig;
use mesh::Object;
use serde::Deserialize;
use serde_json::Value;
use translate::authz::{Inputs, Providers, external_filters, filters};

use crate::data::{cases, read, yaml};
use crate::report;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    filter_type: String,
    input: String,
    goldens: Vec<String>,
    #[serde(default)]
    custom_providers: bool,
    #[serde(default)]
    mesh_config: Option<String>,
    #[serde(default)]
    trust_domain: Option<String>,
    #[serde(default)]
    trust_domain_aliases: Vec<String>,
}

#[derive(Deserialize)]
struct Surroundings {
    proxy: Proxy,
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Proxy {
    namespace: String,
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Service {
    hostname: String,
    namespace: String,
}

/// Runs every case of `<data>/authz`.
///
/// # Errors
/// If the set itself cannot be read.
pub fn run(data: &Path) -> Result<Vec<report::Case>, String> {
    let folder = data.join("authz");
    let cases: Vec<Case> = cases(&folder.join("cases.yaml"))?;
    let surroundings: Surroundings = yaml(&folder.join("proxy.yaml"))?;
    Ok(cases
        .iter()
        .map(|case| report::Case::new(case.name.clone(), check(&folder, case, &surroundings)))
        .collect())
}

fn check(folder: &Path, case: &Case, surroundings: &Surroundings) -> Result<(), String> {
    let mut policies = Vec::new();
    for object in testkit::objects(&read(&folder.join(&case.input))?).map_err(|e| e.to_string())? {
        let Object::AuthorizationPolicy(policy) = object else {
            continue;
        };
        let selects = policy.spec.selector.as_ref().is_none_or(|s| {
            s.match_labels
                .iter()
                .all(|(k, v)| surroundings.proxy.labels.get(k) == Some(v))
        });
        let in_scope =
            *policy.meta.namespace == *surroundings.proxy.namespace || &*policy.meta.namespace == "istio-config";
        if selects && in_scope {
            policies.push(policy);
        }
    }
    let mesh = match &case.mesh_config {
        None => MeshConfig::default(),
        Some(path) => MeshConfig::from_json(yaml::<Value>(&folder.join(path))?).map_err(|e| e.to_string())?,
    };
    let known = |namespace: Option<&str>, host: &str| {
        surroundings
            .services
            .iter()
            .any(|s| s.hostname == host && namespace.is_none_or(|n| n == s.namespace))
    };
    let providers = Providers::new(&mesh, known);
    let trust_domains = case
        .trust_domain
        .iter()
        .chain(&case.trust_domain_aliases)
        .cloned()
        .collect();
    let inputs = Inputs {
        policies,
        trust_domains,
        providers: &providers,
    };
    let made = if case.custom_providers {
        external_filters(&inputs)
    } else {
        filters(&inputs)
    };
    let made: Vec<Value> = if case.filter_type == "http" {
        made.http
            .iter()
            .map(::xds::json::to_json)
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())?
    } else {
        made.tcp
            .iter()
            .map(::xds::json::to_json)
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())?
    };
    if made.len() != case.goldens.len() {
        return Err(format!("{} filters expected, {} made", case.goldens.len(), made.len()));
    }
    for (golden, made) in case.goldens.iter().zip(&made) {
        let expected: Value = yaml(&folder.join(golden))?;
        let expected = canonical(&expected, &case.filter_type)?;
        let differences = crate::xds::differences(&expected, made);
        if !differences.is_empty() {
            return Err(format!("{golden}: {}", differences.join("\n  ")));
        }
    }
    Ok(())
}

/// The golden as a protobuf message and back, so that spelling does not count.
fn canonical(golden: &Value, filter_type: &str) -> Result<Value, String> {
    use ::xds::envoy::config::listener::v3::Filter;
    use ::xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
    let text = |e: ::xds::json::JsonError| e.to_string();
    if filter_type == "http" {
        ::xds::json::to_json(&::xds::json::from_json::<HttpFilter>(golden).map_err(text)?).map_err(text)
    } else {
        ::xds::json::to_json(&::xds::json::from_json::<Filter>(golden).map_err(text)?).map_err(text)
    }
}
