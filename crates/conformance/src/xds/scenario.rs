//! A scenario: its objects, its proxies, and what is made for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh::{Mesh, SecretReader};
use serde::Deserialize;
use serde_json::Value;
use testkit::ProxySpec;
use translate::{Generator, Proxy, ResourceType};

use super::{compare, expected, stock};
use crate::data::{read, yaml};

/// Kinds that are not translated yet.
const KINDS: [&str; 8] = [
    "WasmPlugin",
    "Ingress",
    "HTTPRoute",
    "GRPCRoute",
    "TLSRoute",
    "TCPRoute",
    "GatewayClass",
    "ProxyConfig",
];
/// Mesh configuration that is not translated yet.
const MESH_FIELDS: [&str; 0] = [];

#[derive(Debug, Deserialize)]
struct Index {
    scenarios: Vec<Scenario>,
}

/// An entry of the index.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// Its name, and that of its folder.
    pub name: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Proxies {
    proxies: Vec<ProxySpec>,
}

/// All scenarios.
///
/// # Errors
/// The index cannot be read.
pub fn index(xds: &Path) -> Result<Vec<Scenario>, String> {
    let index: Index = yaml(&xds.join("index.yaml"))?;
    Ok(index.scenarios)
}

impl Scenario {
    /// What differs, over all proxies.
    ///
    /// # Errors
    /// The scenario cannot be read.
    pub fn check(&self, xds: &Path) -> Result<Vec<String>, String> {
        let folder = xds.join(&self.name);
        let config = std::fs::read_to_string(folder.join("mesh.yaml")).unwrap_or_default();
        let mesh = testkit::mesh(&read(&folder.join("input.yaml"))?, &config).map_err(|e| e.to_string())?;
        let proxies: Proxies = yaml(&folder.join("proxies.yaml"))?;
        let roles = proxies
            .proxies
            .iter()
            .map(|p| (p.name.clone(), p.role.clone()))
            .collect();
        let mut all = Vec::new();
        for spec in &proxies.proxies {
            for difference in self.check_proxy(xds, &mesh, spec, &roles)? {
                all.push(format!("{}: {difference}", spec.name));
            }
        }
        Ok(all)
    }

    fn check_proxy(
        &self,
        xds: &Path,
        mesh: &Mesh,
        spec: &ProxySpec,
        roles: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, String> {
        let mut proxy = Proxy::of_node(&spec.node()).map_err(|e| e.to_string())?;
        proxy.secrets = Some(SecretReader::of_verified_namespace(&spec.namespace));
        let mut generator = Generator::new(mesh.snapshot());
        let class = generator.open(proxy.class(generator.snapshot()));
        let mut set = |t| testkit::resources_json(&generator.set(class, t));
        let clusters = set(ResourceType::Cluster);
        let listeners = set(ResourceType::Listener);
        let asked_routes = texts_under(listeners.values(), "routeConfigName");
        let asked_endpoints: BTreeSet<String> = clusters
            .values()
            .filter_map(|c| c.pointer("/edsClusterConfig/serviceName")?.as_str().map(str::to_owned))
            .collect();
        let only = |all: BTreeMap<String, Value>, asked: &BTreeSet<String>| -> BTreeMap<String, Value> {
            all.into_iter().filter(|(name, _)| asked.contains(name)).collect()
        };
        let routes = only(set(ResourceType::Route), &asked_routes);
        let endpoints = only(set(ResourceType::Endpoints), &asked_endpoints);
        let delivered: BTreeSet<String> = set(ResourceType::Secret).into_keys().collect();
        let asked = secrets_asked(clusters.values().chain(listeners.values()));
        let table = set(ResourceType::NameTable).into_values().next();
        let made = expected::Resources::from([
            ("clusters".to_owned(), clusters),
            ("listeners".to_owned(), listeners),
            ("routes".to_owned(), routes),
            ("endpoints".to_owned(), endpoints),
            ("extensions".to_owned(), set(ResourceType::Extension)),
        ]);
        let wanted = expected::of_proxy(xds, &self.name, &spec.name, roles)?;
        let mut list = Vec::new();
        for kind in expected::TYPES {
            let nothing = BTreeMap::new();
            let (wanted, made) = (wanted.get(kind).unwrap_or(&nothing), made.get(kind).unwrap_or(&nothing));
            for (name, resource) in wanted {
                match made.get(name) {
                    None => list.push(format!("{kind} {name}: missing")),
                    Some(made) => {
                        let (mut wanted, mut made) = (resource.clone(), made.clone());
                        stock::normalize(&mut wanted);
                        stock::normalize(&mut made);
                        let found = compare::differences(&wanted, &made);
                        list.extend(found.into_iter().map(|d| format!("{kind} {name}: {d}")));
                    }
                }
            }
            list.extend(
                made.keys()
                    .filter(|n| !wanted.contains_key(*n))
                    .map(|n| format!("{kind} {n}: unexpected")),
            );
        }
        let wanted_secrets = expected::secrets(xds, &self.name, &spec.name);
        let made_secrets: BTreeMap<String, bool> = asked
            .into_iter()
            .map(|name| (name.clone(), delivered.contains(&name)))
            .collect();
        if wanted_secrets != made_secrets {
            list.push(format!("secrets: expected {wanted_secrets:?}, made {made_secrets:?}"));
        }
        if let Some(wanted) = expected::name_table(xds, &self.name, &spec.name) {
            let found = compare::differences(&wanted, &table.unwrap_or_default());
            list.extend(found.into_iter().map(|d| format!("name table: {d}")));
        }
        Ok(list)
    }

    /// What the scenario needs that is not translated yet.
    pub fn unsupported(&self, xds: &Path) -> Option<String> {
        let folder = xds.join(&self.name);
        if !self.env.is_empty() {
            let flags: Vec<&str> = self.env.keys().map(String::as_str).collect();
            return Some(format!("flags {}", flags.join(", ")));
        }
        let files: Vec<String> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .collect();
        if files.iter().any(|f| f.starts_with("input.") && f != "input.yaml") {
            return Some("several clusters".to_owned());
        }
        if files.iter().any(|f| f == "mesh-networks.yaml") {
            return Some("several networks".to_owned());
        }
        let text = std::fs::read_to_string(folder.join("input.yaml")).ok()?;
        if text.contains(api::names::label::NETWORK) {
            return Some("several networks".to_owned());
        }
        let mut kinds = BTreeSet::new();
        for document in testkit::documents(&text).ok()? {
            let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
            let version = document.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
            if KINDS.contains(&kind) || version.starts_with("gateway.networking.k8s.io/") {
                kinds.insert(kind.to_owned());
            }
        }
        if let Ok(mesh) = std::fs::read_to_string(folder.join("mesh.yaml")) {
            kinds.extend(
                MESH_FIELDS
                    .iter()
                    .filter(|f| mesh.contains(*f))
                    .map(|f| format!("mesh config {f}")),
            );
        }
        (!kinds.is_empty()).then(|| kinds.into_iter().collect::<Vec<_>>().join(", "))
    }
}

/// Texts under a key, anywhere.
fn texts_under<'a>(values: impl Iterator<Item = &'a Value>, key: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Value> = values.collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                found.extend(map.get(key).and_then(Value::as_str).map(str::to_owned));
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

/// Names of secrets that are asked for from the control plane.
fn secrets_asked<'a>(values: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Value> = values.collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if map.get("sdsConfig").is_some_and(|s| s.get("ads").is_some()) {
                    found.extend(map.get("name").and_then(Value::as_str).map(str::to_owned));
                }
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}
