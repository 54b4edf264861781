//! What one proxy was sent, in the shape of Envoy's own `config_dump`.

use std::sync::Arc;

use ads::{Connection, kinds};
use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};
use xds::envoy::admin::v3::{
    ClustersConfigDump, EndpointsConfigDump, ListenersConfigDump, RoutesConfigDump, SecretsConfigDump,
    clusters_config_dump, endpoints_config_dump, listeners_config_dump, routes_config_dump, secrets_config_dump,
};
use xds::google::protobuf::Any;
use xds::resource::Resource;

use super::encode;

/// Dumps of clusters, listeners, routes, endpoints and secrets (names only), as encoded `Any`s.
pub fn config_dumps(connection: &Connection) -> Vec<Bytes> {
    messages(connection).into_iter().map(|dump| dump.1).collect()
}

/// The same as JSON: `{"configs": […]}`.
pub fn config_dump(connection: &Connection) -> Value {
    let configs: Vec<Value> = messages(connection)
        .into_iter()
        .filter_map(|(_, encoded)| xds::json::any_to_json(&Any::decode(encoded).ok()?).ok())
        .collect();
    json!({ "configs": configs })
}

fn messages(connection: &Connection) -> Vec<(&'static str, Bytes)> {
    let sent = connection.with_stream(|stream| stream.sent());
    sent.iter()
        .filter_map(|(url, resources)| dump(url, resources))
        .collect()
}

fn dump(type_url: &str, resources: &[Arc<Resource>]) -> Option<(&'static str, Bytes)> {
    let any = |resource: &Arc<Resource>| Any::decode(resource.body.to_bytes()).ok();
    Some(match type_url {
        kinds::CLUSTER => {
            let dynamic = |r| clusters_config_dump::DynamicCluster {
                cluster: any(r),
                ..Default::default()
            };
            let dump = ClustersConfigDump {
                dynamic_active_clusters: resources.iter().map(dynamic).collect(),
                ..Default::default()
            };
            ("clusters", encode(&dump))
        }
        kinds::LISTENER => {
            let dynamic = |r: &Arc<Resource>| listeners_config_dump::DynamicListener {
                name: r.name.to_string(),
                active_state: Some(listeners_config_dump::DynamicListenerState {
                    listener: any(r),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let dump = ListenersConfigDump {
                dynamic_listeners: resources.iter().map(dynamic).collect(),
                ..Default::default()
            };
            ("listeners", encode(&dump))
        }
        kinds::ROUTE => {
            let dynamic = |r| routes_config_dump::DynamicRouteConfig {
                route_config: any(r),
                ..Default::default()
            };
            let dump = RoutesConfigDump {
                dynamic_route_configs: resources.iter().map(dynamic).collect(),
                ..Default::default()
            };
            ("routes", encode(&dump))
        }
        kinds::ENDPOINT => {
            let dynamic = |r| endpoints_config_dump::DynamicEndpointConfig {
                endpoint_config: any(r),
                ..Default::default()
            };
            let dump = EndpointsConfigDump {
                dynamic_endpoint_configs: resources.iter().map(dynamic).collect(),
                ..Default::default()
            };
            ("endpoints", encode(&dump))
        }
        // Names only: keys leave the control plane towards their proxies and nobody else.
        kinds::SECRET => {
            let dynamic = |r: &Arc<Resource>| secrets_config_dump::DynamicSecret {
                name: r.name.to_string(),
                ..Default::default()
            };
            let dump = SecretsConfigDump {
                dynamic_active_secrets: resources.iter().map(dynamic).collect(),
                ..Default::default()
            };
            ("secrets", encode(&dump))
        }
        _ => return None,
    })
}
