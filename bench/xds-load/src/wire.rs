//! The few fields of discovery's messages that a simulated sidecar needs.
//!
//! Decoding all of a configuration would take the processor time that the control plane under test should have.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Oneof};

pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Path of the delta method.
pub const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub cluster: String,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(oneof = "Kind", tags = "3, 5")]
    pub kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "5")]
    Struct(Struct),
}

/// A struct of texts and structs.
pub fn metadata(fields: Vec<(&str, Kind)>) -> Struct {
    let fields = fields
        .into_iter()
        .map(|(key, kind)| (key.to_owned(), Value { kind: Some(kind) }));
    Struct {
        fields: fields.collect(),
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    #[prost(string, tag = "2")]
    pub type_url: String,
    #[prost(string, repeated, tag = "3")]
    pub subscribe: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub unsubscribe: Vec<String>,
    #[prost(string, tag = "6")]
    pub nonce: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Response {
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub removed: Vec<String>,
}

/// A response whose resources stay encoded.
#[derive(Clone, PartialEq, Message)]
pub struct RawResponse {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    pub type_url: String,
    #[prost(string, tag = "5")]
    pub nonce: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(message, optional, tag = "2")]
    pub any: Option<Any>,
    #[prost(bytes = "bytes", tag = "3")]
    pub name: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Cluster {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    discovery: i32,
    #[prost(message, optional, tag = "3")]
    endpoints: Option<EdsConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct EdsConfig {
    #[prost(string, tag = "2")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct Listener {
    #[prost(message, repeated, tag = "3")]
    chains: Vec<Chain>,
    #[prost(message, optional, tag = "25")]
    default: Option<Chain>,
}

#[derive(Clone, PartialEq, Message)]
struct Chain {
    #[prost(message, repeated, tag = "3")]
    filters: Vec<Filter>,
}

#[derive(Clone, PartialEq, Message)]
struct Filter {
    #[prost(message, optional, tag = "4")]
    config: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Manager {
    #[prost(message, optional, tag = "3")]
    routes: Option<RdsConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct RdsConfig {
    #[prost(string, tag = "2")]
    name: String,
}

/// Endpoint set that an EDS cluster asks for.
pub fn endpoint_set(resource: &Resource) -> Option<String> {
    const EDS: i32 = 3;
    let cluster = Cluster::decode(resource.any.as_ref()?.value.clone()).ok()?;
    let service = cluster
        .endpoints
        .map(|config| config.service)
        .filter(|name| !name.is_empty());
    (cluster.discovery == EDS).then(|| service.unwrap_or(cluster.name))
}

/// Route configurations that a listener asks for.
pub fn route_names(resource: &Resource) -> Vec<String> {
    let Some(listener) = resource
        .any
        .as_ref()
        .and_then(|any| Listener::decode(any.value.clone()).ok())
    else {
        return Vec::new();
    };
    let filters = listener
        .chains
        .iter()
        .chain(&listener.default)
        .flat_map(|chain| &chain.filters);
    let managers = filters.filter_map(|filter| filter.config.as_ref());
    let managers = managers.filter(|any| any.type_url.ends_with("HttpConnectionManager"));
    managers
        .filter_map(|any| Some(Manager::decode(any.value.clone()).ok()?.routes?.name))
        .collect()
}
