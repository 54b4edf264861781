//! Merging a patch into a message, with the semantics of protocol buffers: what is set overrides, messages merge, lists
//! grow. Times are values and not messages here; what is packed is unpacked if both sides have the same type.

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MapKey, ReflectMessage, Value};
use serde_json::Value as Json;

const ANY: &str = "google.protobuf.Any";
const VALUES: [&str; 2] = ["google.protobuf.Duration", "google.protobuf.Timestamp"];

/// Merges what is written into a message; false if it does not fit the type.
pub(super) fn into<M: Message + Name + Default>(message: &mut M, written: &Json) -> bool {
    merged(message, written).is_some_and(|new| {
        *message = new;
        true
    })
}

fn merged<M: Message + Name + Default>(message: &M, written: &Json) -> Option<M> {
    let descriptor = xds::json::descriptors().get_message_by_name(&M::full_name())?;
    let mut target = DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice()).ok()?;
    let patch = DynamicMessage::deserialize(descriptor, written).ok()?;
    merge(&mut target, &patch);
    target.transcode_to().ok()
}

fn merge(target: &mut DynamicMessage, patch: &DynamicMessage) {
    if patch.descriptor().full_name() == ANY && merge_packed(target, patch) == Some(()) {
        return;
    }
    for (field, value) in patch.fields() {
        let slot = target.get_field_mut(&field);
        match (slot, value) {
            (Value::List(list), Value::List(more)) => list.extend(more.iter().cloned()),
            (Value::Map(map), Value::Map(more)) => merge_map(map, more),
            (Value::Message(old), Value::Message(new))
                if !VALUES.contains(&new.descriptor().full_name()) && old.descriptor() == new.descriptor() =>
            {
                merge(old, new);
            }
            (slot, value) => *slot = value.clone(),
        }
    }
}

fn merge_map(map: &mut std::collections::HashMap<MapKey, Value>, more: &std::collections::HashMap<MapKey, Value>) {
    for (key, value) in more {
        map.insert(key.clone(), value.clone());
    }
}

/// Merges what is packed; none if the types differ or nobody knows them.
fn merge_packed(target: &mut DynamicMessage, patch: &DynamicMessage) -> Option<()> {
    let name = |any: &DynamicMessage| match any.get_field_by_name("type_url")?.as_ref() {
        Value::String(url) => Some(xds::json::type_name(url).to_owned()),
        _ => None,
    };
    let bytes = |any: &DynamicMessage| match any.get_field_by_name("value")?.as_ref() {
        Value::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    };
    let type_name = name(target)?;
    if type_name != name(patch)? {
        return None;
    }
    let mut inner = xds::json::decode(&type_name, &bytes(target)?).ok()?;
    merge(&mut inner, &xds::json::decode(&type_name, &bytes(patch)?).ok()?);
    target.set_field_by_name("value", Value::Bytes(inner.encode_to_vec().into()));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use xds::envoy::config::cluster::v3::{Cluster, cluster};
    use xds::google::protobuf::Duration;

    #[test]
    fn what_is_set_overrides_and_lists_grow() {
        let mut message = Cluster {
            name: "a".to_owned(),
            connect_timeout: Some(Duration {
                seconds: 1,
                nanos: 500_000_000,
            }),
            ..Cluster::default()
        };
        let patch = serde_json::json!({
            "connect_timeout": "2s", "lb_policy": "RANDOM",
            "circuit_breakers": { "thresholds": [{ "max_connections": 5 }] },
        });
        assert!(into(&mut message, &patch) && into(&mut message, &patch));
        assert_eq!(message.name, "a");
        assert_eq!(message.connect_timeout, Some(Duration { seconds: 2, nanos: 0 }));
        assert_eq!(message.lb_policy, cluster::LbPolicy::Random as i32);
        assert_eq!(message.circuit_breakers.map(|c| c.thresholds.len()), Some(2));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut message = Cluster::default();
        assert!(!into(&mut message, &serde_json::json!({ "no_such_field": 1 })));
        assert_eq!(message, Cluster::default());
    }
}
