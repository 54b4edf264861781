//! What comes from outside is parsed without a panic, whatever it is; and what is written can be read again.
#![allow(clippy::unwrap_used)]

use drydock_api::{
    codec::{
        Accept, Document,
        accept::to_yaml,
        protobuf::{Envelope, encode},
    },
    patch,
    request::{Options, RequestInfo},
    schema,
    select::LabelSelector,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Any JSON value of moderate size.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~\n]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[$a-z/:#. -]{1,10}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn bodies_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::from_json(&bytes);
        let _ = Document::from_yaml(&bytes);
        let body = [b"k8s\0".as_slice(), &bytes].concat();
        if let Ok(envelope) = Envelope::open(&body) {
            let _ = envelope.object(schema::builtin("core.v1.Pod").unwrap());
        }
        let raw = Envelope { api_version: "v1".into(), kind: "Pod".into(), raw: &bytes };
        let _ = raw.object(schema::builtin("core.v1.Pod").unwrap());
    }

    #[test]
    fn texts_do_not_panic(text in "\\PC{0,80}") {
        let _ = LabelSelector::parse(&text);
        let _ = Accept::negotiate(Some(&text), true, true);
        let _ = Options::parse(Some(&text));
        let _ = RequestInfo::parse("GET", &format!("/{text}"), Some(&text));
        let _ = schema::quantity::Quantity::parse(&text);
    }

    #[test]
    fn patches_do_not_panic(target in any_json(), patch in any_json()) {
        let mut json_patched = target.clone();
        let _ = patch::json(&mut json_patched, &patch);
        let mut merged = target.clone();
        patch::merge(&mut merged, &patch);
        let pod = schema::builtin("core.v1.PodSpec").unwrap();
        let mut strategic = target;
        let _ = patch::strategic_merge(pod, &mut strategic, &patch);
    }

    #[test]
    fn objects_do_not_panic(object in any_json()) {
        let pod = schema::builtin("core.v1.Pod").unwrap();
        let mut decoded = object;
        if schema::decode(pod, "Pod", &mut decoded, &[]).is_ok() {
            schema::normalize(pod, &mut decoded);
            let _ = encode(pod, "v1", "Pod", &decoded);
        }
    }

    #[test]
    fn yaml_is_read_as_it_was_written(value in any_json()) {
        let text = to_yaml(&value);
        let read = Document::from_yaml(text.as_bytes());
        prop_assert_eq!(read.map(|document| document.value), Ok(value), "{}", text);
    }

    #[test]
    fn quantities_keep_their_value(number in 0u32..2_000_000, suffix in "(m|k|M|G|Ki|Mi|Gi|)") {
        let quantity = schema::quantity::Quantity::parse(&format!("{number}{suffix}")).unwrap();
        let again = schema::quantity::Quantity::parse(&quantity.canonical()).unwrap();
        prop_assert_eq!(again.nanos(), quantity.nanos());
        prop_assert_eq!(again.canonical(), quantity.canonical());
    }
}

#[test]
fn protobuf_is_read_as_it_was_written() {
    let schema = schema::builtin("core.v1.Pod").unwrap();
    let mut pod = json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": "p", "labels": { "a": "b" }, "creationTimestamp": "2024-01-02T03:04:05Z",
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true }],
        },
        "spec": {
            "volumes": [
                { "name": "v", "configMap": { "name": "c", "defaultMode": 420 } },
                { "name": "t", "projected": { "sources": [{ "serviceAccountToken": { "path": "t", "expirationSeconds": 600 } }] } },
            ],
            "containers": [{
                "name": "c",
                "image": "i",
                "ports": [{ "containerPort": 80, "protocol": "TCP" }],
                "resources": { "limits": { "cpu": "500m" } },
                "readinessProbe": { "httpGet": { "port": "http", "path": "/" }, "periodSeconds": 3 },
                "livenessProbe": { "tcpSocket": { "port": 8080 } },
                "securityContext": { "runAsUser": 0, "privileged": false },
            }],
            "nodeSelector": { "k": "v" },
        },
        "status": { "phase": "Pending" },
    });
    schema::normalize(schema, &mut pod);
    let bytes = encode(schema, "v1", "Pod", &pod);
    let envelope = Envelope::open(&bytes).unwrap();
    assert_eq!((envelope.api_version.as_str(), envelope.kind.as_str()), ("v1", "Pod"));
    let mut read = envelope.object(schema).unwrap();
    schema::normalize(schema, &mut read);
    assert_eq!(read, pod);
}
