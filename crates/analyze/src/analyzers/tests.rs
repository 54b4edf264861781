use super::{Scope, run};
use crate::objects::Objects;
use serde_json::{Value, json};

fn namespace(name: &str, labels: Value) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn webhook(name: &str, revision: &str, tag: Option<&str>, selects: &str) -> Value {
    let mut labels = json!({"istio.io/rev": revision});
    if let Some(tag) = tag {
        labels["istio.io/tag"] = tag.into();
    }
    json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": name, "labels": labels}, "webhooks": [{
        "name": "rev.namespace.sidecar-injector.istio.io",
        "clientConfig": {"service": {"name": format!("istiod-{revision}"), "namespace": "istio-system"}},
        "namespaceSelector": {"matchExpressions": [{"key": "istio.io/rev", "operator": "In", "values": [selects]}]},
        "objectSelector": {"matchExpressions": [{"key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]}]},
    }]})
}

fn check(objects: &[Value], expected: &[&str]) {
    let mut all = Objects::default();
    objects.iter().cloned().for_each(|object| all.add(object));
    let found: Vec<String> = run(&all, Scope::default())
        .messages
        .iter()
        .map(|m| {
            format!(
                "{} {}",
                m.code.code,
                m.origin.as_ref().map(ToString::to_string).unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn two_labels_on_a_namespace_contradict_each_other() {
    check(
        &[namespace(
            "a",
            json!({"istio-injection": "enabled", "istio.io/rev": "canary"}),
        )],
        &["IST0123 Namespace a"],
    );
    check(&[namespace("a", json!({"istio-injection": "enabled"}))], &[]);
    check(&[namespace("a", json!({}))], &["IST0102 Namespace a"]);
}

#[test]
fn a_label_must_name_something() {
    let canary = webhook("istio-sidecar-injector-canary", "canary", None, "canary");
    check(
        &[canary.clone(), namespace("a", json!({"istio.io/rev": "canary"}))],
        &[],
    );
    check(
        &[canary.clone(), namespace("a", json!({"istio.io/rev": "canry"}))],
        &["IST0101 Namespace a"],
    );
    let tag = webhook("istio-revision-tag-prod", "gone", Some("prod"), "prod");
    check(
        &[canary, tag],
        &["IST0101 MutatingWebhookConfiguration istio-revision-tag-prod"],
    );
}

#[test]
fn webhooks_must_not_overlap_or_dangle() {
    let (a, b) = (webhook("a", "x", None, "x"), webhook("b", "x", None, "x"));
    check(
        &[a.clone(), b],
        &[
            "IST0139 MutatingWebhookConfiguration a",
            "IST0139 MutatingWebhookConfiguration b",
        ],
    );
    let other = json!({"kind": "Service", "metadata": {"name": "web", "namespace": "app"}});
    check(&[a, other], &["IST0139 MutatingWebhookConfiguration a"]);
}

#[test]
fn pods_and_their_proxies() {
    let pod = |containers: Value| json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": containers}});
    let injected = namespace("a", json!({"istio-injection": "enabled"}));
    check(&[injected.clone(), pod(json!([{"name": "app"}]))], &["IST0103 Pod p.a"]);
    let configuration = json!({"kind": "ConfigMap", "metadata": {"name": "istio-sidecar-injector-canary", "namespace": "istio-system"},
        "data": {"values": json!({"global": {"hub": "h", "tag": "2", "proxy": {"image": "proxyv2"}}}).to_string()}});
    let mut tag = webhook("istio-revision-tag-default", "canary", Some("default"), "default");
    tag["webhooks"] = json!([]);
    let canary = webhook("istio-sidecar-injector-canary", "canary", None, "canary");
    let running = |image: &str| pod(json!([{"name": "istio-proxy", "image": image}]));
    check(
        &[
            injected.clone(),
            configuration.clone(),
            tag.clone(),
            canary.clone(),
            running("h/proxyv2:1"),
        ],
        &["IST0158 Namespace a"],
    );
    check(&[injected, configuration, tag, canary, running("h/proxyv2:2")], &[]);
}
