//! How far each proxy got (revisions.md §6.3–6.6).

use std::collections::BTreeMap;
use std::time::SystemTime;

use ads::stream::{Sync, TypeStatus};
use ads::{Connection, kinds};
use serde_json::{Map, Value, json};
use xds::envoy::admin::v3::UpdateFailureState;
use xds::envoy::config::core::v3::Node;
use xds::envoy::service::status::v3::client_config::GenericXdsConfig;
use xds::envoy::service::status::v3::{ClientConfig, ConfigStatus};
use xds::google::protobuf::{Struct, Timestamp, Value as ProtoValue, value};

/// Status of a connection as `proxy-status` reads it over discovery.
pub fn client_config(connection: &Connection) -> ClientConfig {
    let text = |text: &str| ProtoValue {
        kind: Some(value::Kind::StringValue(text.to_owned())),
    };
    let info = &connection.info;
    let fields = BTreeMap::from([
        ("CLUSTER_ID".to_owned(), text(&info.cluster_id)),
        ("ISTIO_VERSION".to_owned(), text(&info.istio_version)),
        ("NAMESPACE".to_owned(), text(&info.namespace)),
        ("PROXY_TYPE".to_owned(), text(&info.proxy_type)),
    ]);
    ClientConfig {
        node: Some(Node {
            id: info.proxy_id.clone(),
            metadata: Some(Struct { fields }),
            ..Node::default()
        }),
        generic_xds_configs: connection
            .with_stream(|stream| stream.status())
            .iter()
            .map(generic)
            .collect(),
        client_scope: connection.id.clone(),
        ..ClientConfig::default()
    }
}

fn generic(status: &TypeStatus) -> GenericXdsConfig {
    let config_status = match status.sync {
        Sync::NotSent => ConfigStatus::NotSent,
        Sync::Synced => ConfigStatus::Synced,
        Sync::Stale => ConfigStatus::Stale,
        Sync::Error => ConfigStatus::Error,
    };
    let last_updated = status.last_sent.map(timestamp);
    GenericXdsConfig {
        type_url: status.type_url.to_string(),
        version_info: status.version_acked.clone(),
        config_status: config_status.into(),
        error_state: status.error.as_ref().map(|details| UpdateFailureState {
            details: details.clone(),
            version_info: status.version_sent.clone(),
            last_update_attempt: last_updated,
            ..UpdateFailureState::default()
        }),
        last_updated,
        ..GenericXdsConfig::default()
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

/// Status of a connection as `/debug/syncz` tells it.
pub fn entry(connection: &Connection) -> Value {
    let info = &connection.info;
    let mut entry = Map::new();
    let mut put = |key: String, value: Value| entry.insert(key, value);
    put("cluster_id".into(), info.cluster_id.clone().into());
    put("proxy".into(), info.proxy_id.clone().into());
    put("proxy_type".into(), info.proxy_type.clone().into());
    put("istio_version".into(), info.istio_version.clone().into());
    let status = connection.with_stream(|stream| stream.status());
    const PREFIXES: [(&str, &str); 5] = [
        ("cluster", kinds::CLUSTER),
        ("listener", kinds::LISTENER),
        ("route", kinds::ROUTE),
        ("endpoint", kinds::ENDPOINT),
        ("extensionconfig", kinds::EXTENSION),
    ];
    for (prefix, url) in PREFIXES {
        if let Some(status) = status.iter().find(|s| &*s.type_url == url) {
            put(format!("{prefix}_sent"), status.nonce_sent.clone().into());
            put(format!("{prefix}_acked"), status.nonce_acked.clone().into());
        }
    }
    let resources: Map<String, Value> = status.iter().map(|s| (s.type_url.to_string(), resource(s))).collect();
    put("resources".into(), resources.into());
    Value::Object(entry)
}

fn resource(status: &TypeStatus) -> Value {
    let mut value = json!({
        "sent": status.nonce_sent,
        "acked": status.nonce_acked,
        "status": match status.sync {
            Sync::NotSent => "NOT_SENT",
            Sync::Synced => "SYNCED",
            Sync::Stale => "STALE",
            Sync::Error => "ERROR",
        },
        "version": status.version_acked,
    });
    if let Some(at) = status.last_sent.and_then(|at| jiff::Timestamp::try_from(at).ok()) {
        value["sentTime"] = at.to_string().into();
    }
    if let Some(error) = &status.error {
        value["lastError"] = error.clone().into();
    }
    value
}
