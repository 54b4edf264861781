//! Proxies as tests describe them, and resources as JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use xds::envoy::config::core::v3 as core;
use xds::envoy::r#type::v3::SemanticVersion;
use xds::google::protobuf::{Any, Struct, Value as ProtoValue, value};
use xds::resource::{Resource, ResourceSet};

/// A proxy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxySpec {
    /// Name in the test.
    pub name: String,
    /// `sidecar` or `router`.
    #[serde(rename = "type")]
    pub role: String,
    /// `<pod>.<namespace>`.
    pub id: String,
    /// Addresses.
    pub ips: Vec<String>,
    /// Namespace.
    pub namespace: String,
    /// Labels of its pod.
    pub labels: BTreeMap<String, String>,
    /// Service account.
    pub service_account: String,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Version of its agent.
    pub istio_version: Option<String>,
    /// Version of its Envoy, if it says so: `major.minor.patch`.
    pub envoy_version: Option<String>,
    /// Cluster it is in.
    #[serde(rename = "clusterID")]
    pub cluster_id: Option<String>,
    /// Network it is in.
    pub network: Option<String>,
    /// Further metadata.
    pub metadata: BTreeMap<String, Value>,
}

impl ProxySpec {
    /// A sidecar of a pod.
    pub fn sidecar(namespace: &str, pod: &str, ip: &str, labels: &[(&str, &str)]) -> Self {
        Self {
            name: pod.to_owned(),
            role: "sidecar".to_owned(),
            id: format!("{pod}.{namespace}"),
            ips: vec![ip.to_owned()],
            namespace: namespace.to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            service_account: "default".to_owned(),
            ..Self::default()
        }
    }

    /// The node message that its agent sends.
    pub fn node(&self) -> core::Node {
        let mut metadata: BTreeMap<String, ProtoValue> = BTreeMap::new();
        let mut put = |key: &str, value: &str| drop(metadata.insert(key.to_owned(), text(value)));
        put("NAME", self.id.split('.').next().unwrap_or_default());
        put("NAMESPACE", &self.namespace);
        put("SERVICE_ACCOUNT", &self.service_account);
        put("INSTANCE_IPS", &self.ips.join(","));
        put("ISTIO_VERSION", self.istio_version.as_deref().unwrap_or("1.32.0"));
        put("CLUSTER_ID", self.cluster_id.as_deref().unwrap_or("Kubernetes"));
        if let Some(network) = &self.network {
            put("NETWORK", network);
        }
        let labels = self.labels.iter().map(|(k, v)| (k.clone(), text(v))).collect();
        metadata.insert("LABELS".to_owned(), object(labels));
        metadata.extend(self.metadata.iter().map(|(k, v)| (k.clone(), of_json(v))));
        let mut locality = self.locality.splitn(3, '/').map(str::to_owned);
        let mut part = || locality.next().unwrap_or_default();
        core::Node {
            id: format!(
                "{}~{}~{}~{}.svc.cluster.local",
                self.role,
                self.ips.first().cloned().unwrap_or_default(),
                self.id,
                self.namespace
            ),
            metadata: Some(Struct { fields: metadata }),
            locality: Some(core::Locality {
                region: part(),
                zone: part(),
                sub_zone: part(),
            }),
            user_agent_version_type: self.envoy_version.as_deref().map(build_version),
            ..Default::default()
        }
    }
}

/// What Envoy says of itself.
fn build_version(version: &str) -> core::node::UserAgentVersionType {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or_default());
    let mut number = || numbers.next().unwrap_or_default();
    core::node::UserAgentVersionType::UserAgentBuildVersion(core::BuildVersion {
        version: Some(SemanticVersion {
            major_number: number(),
            minor_number: number(),
            patch: number(),
        }),
        metadata: None,
    })
}

fn text(text: &str) -> ProtoValue {
    ProtoValue {
        kind: Some(value::Kind::StringValue(text.to_owned())),
    }
}

fn object(fields: BTreeMap<String, ProtoValue>) -> ProtoValue {
    ProtoValue {
        kind: Some(value::Kind::StructValue(Struct { fields })),
    }
}

fn of_json(json: &Value) -> ProtoValue {
    match json {
        Value::Object(map) => object(map.iter().map(|(k, v)| (k.clone(), of_json(v))).collect()),
        Value::Array(items) => ProtoValue {
            kind: Some(value::Kind::ListValue(xds::google::protobuf::ListValue {
                values: items.iter().map(of_json).collect(),
            })),
        },
        Value::Bool(b) => ProtoValue {
            kind: Some(value::Kind::BoolValue(*b)),
        },
        Value::Number(n) => ProtoValue {
            kind: Some(value::Kind::NumberValue(n.as_f64().unwrap_or_default())),
        },
        Value::String(s) => text(s),
        Value::Null => ProtoValue {
            kind: Some(value::Kind::NullValue(0)),
        },
    }
}

/// A resource as JSON, without its type; null for what cannot be decoded.
pub fn resource_json(resource: &Resource) -> Value {
    let any: Option<Any> = prost::Message::decode(resource.body.to_bytes()).ok();
    let Some(any) = any else { return Value::Null };
    let mut json = xds::json::any_to_json(&any).unwrap_or_default();
    if let Value::Object(map) = &mut json {
        map.remove("@type");
    }
    json
}

/// All resources of a set as JSON, by name.
pub fn resources_json(set: &ResourceSet) -> BTreeMap<String, Value> {
    set.iter().map(|r| (r.name.to_string(), resource_json(r))).collect()
}
