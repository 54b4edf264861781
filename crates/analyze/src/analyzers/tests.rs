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
fn a_label_that_names_nothing_beside_the_default_takes_no_proxy_away() {
    let canary = webhook("istio-sidecar-injector-canary", "canary", None, "canary");
    let mut default = webhook("istio-revision-tag-default", "canary", Some("default"), "default");
    default["webhooks"][0]["namespaceSelector"] = json!({"matchLabels": {"istio-injection": "enabled"}});
    let both = namespace("a", json!({"istio-injection": "enabled", "istio.io/rev": "gone"}));
    let told = |objects: &[Value]| {
        let mut all = Objects::default();
        objects.iter().cloned().for_each(|object| all.add(object));
        let messages = run(&all, Scope::default()).messages;
        let about = messages.iter().map(|message| message.text.clone());
        about
            .filter(|text| text.contains("\"gone\""))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let injected = told(&[canary.clone(), default, both.clone()]);
    assert!(
        injected.contains("are injected nevertheless, by its label istio-injection=enabled")
            && !injected.contains("without a proxy"),
        "{injected}"
    );
    let bare = told(&[canary, both]);
    assert!(bare.contains("Its new pods start without a proxy."), "{bare}");
}

/// After `istioctl uninstall --purge`, and before the first installation.
#[test]
fn labels_that_a_mesh_left_behind_are_named() {
    let labelled = [
        namespace("followed", json!({"istio-injection": "enabled"})),
        namespace("named", json!({"istio.io/rev": "canary"})),
        namespace("off", json!({"istio-injection": "disabled"})),
    ];
    check(&labelled, &[]);
    let root = json!({"kind": "ConfigMap", "metadata": {"name": "istio-ca-root-cert", "namespace": "off"}});
    let definition = json!({"kind": "CustomResourceDefinition", "metadata": {"name": "gateways.networking.istio.io"},
        "spec": {"group": "networking.istio.io"}});
    for trace in [root, definition] {
        let mut objects = labelled.to_vec();
        objects.push(trace);
        check(&objects, &["IST0101 Namespace named", "IST0101 Namespace followed"]);
        let canary = webhook("istio-sidecar-injector-canary", "canary", None, "canary");
        objects.push(canary);
        check(&objects, &["IST0101 Namespace followed"]);
    }
}

/// After `istioctl tag remove default`: the injector of the unnamed revision stays switched off.
#[test]
fn a_namespace_that_follows_the_default_needs_one() {
    let canary = webhook("istio-sidecar-injector-canary", "canary", None, "canary");
    let mut unnamed = webhook("istio-sidecar-injector", "default", None, "default");
    unnamed["webhooks"][0]["namespaceSelector"] = json!({"matchLabels": {"istio.io/deactivated": "never-match"}});
    let mut default = webhook("istio-revision-tag-default", "canary", Some("default"), "default");
    default["webhooks"][0]["namespaceSelector"] = json!({"matchLabels": {"istio-injection": "enabled"},
        "matchExpressions": [{"key": "istio.io/rev", "operator": "DoesNotExist"}]});
    let enabled = namespace("a", json!({"istio-injection": "enabled"}));
    let off = [
        canary,
        unnamed,
        enabled,
        namespace("b", json!({"istio-injection": "disabled"})),
    ];
    check(&off, &["IST0101 Namespace a"]);
    check(&[&off[..], &[default]].concat(), &[]);
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
    check(&[a.clone(), other.clone()], &["IST0139 MutatingWebhookConfiguration a"]);
    // One Service that is gone is one finding, however many webhooks call it.
    let mut several = a;
    let mut second = several["webhooks"][0].clone();
    second["namespaceSelector"] = json!({"matchLabels": {"istio.io/rev": "y"}});
    several["webhooks"] = json!([several["webhooks"][0], second]);
    let mut all = Objects::default();
    [several, other].into_iter().for_each(|object| all.add(object));
    assert_eq!(
        super::run_one("webhook.Analyzer", &all).map(|found| found.len()),
        Some(1)
    );
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
    let mut own = running("h/proxyv2:1");
    own["metadata"]["annotations"] = json!({"sidecar.istio.io/proxyImage": "h/proxyv2:1"});
    check(
        &[
            injected.clone(),
            configuration.clone(),
            tag.clone(),
            canary.clone(),
            own,
        ],
        &[],
    );
    check(&[injected, configuration, tag, canary, running("h/proxyv2:2")], &[]);
}

#[test]
fn an_injector_needs_an_istiod_that_is_ready() {
    let service = json!({"kind": "Service", "metadata": {"name": "istiod-x", "namespace": "istio-system"},
        "spec": {"selector": {"app": "istiod", "istio.io/rev": "x"}}});
    let istiod = |ready: &str| {
        json!({"kind": "Pod", "metadata": {"name": "istiod-x-1", "namespace": "istio-system",
            "labels": {"app": "istiod", "istio.io/rev": "x"}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    };
    let (injector, tag) = (
        webhook("own", "x", None, "x"),
        webhook("tag", "x", Some("prod"), "prod"),
    );
    let mesh = [injector, tag, service, namespace("a", json!({"istio.io/rev": "prod"}))];
    let with = |pods: &[Value]| [&mesh[..], pods].concat();
    let asleep = [
        "IST0139 MutatingWebhookConfiguration own",
        "IST0139 MutatingWebhookConfiguration tag",
    ];
    check(&with(&[istiod("True")]), &[]);
    check(&with(&[istiod("False")]), &asleep);
    check(&with(&[]), &asleep);

    // Nobody is told to restart pods that would be refused.
    let configuration = json!({"kind": "ConfigMap", "metadata": {"name": "istio-sidecar-injector-x", "namespace": "istio-system"},
        "data": {"values": json!({"global": {"hub": "h", "tag": "2", "proxy": {"image": "proxyv2"}}}).to_string()}});
    let stale = json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
        "spec": {"containers": [{"name": "istio-proxy", "image": "h/proxyv2:1"}]}});
    for (ready, advice) in [
        ("True", "control-plane and can be fixed by redeploying the pods."),
        (
            "False",
            "control-plane. Do not redeploy the pods yet: no istiod of revision \"x\" is ready, and new pods are refused until \
             one is.",
        ),
    ] {
        let mut all = Objects::default();
        let objects = with(&[istiod(ready), configuration.clone(), stale.clone()]);
        objects.into_iter().for_each(|object| all.add(object));
        let messages = run(&all, Scope::default()).messages;
        let mismatch = messages.iter().find(|message| message.code.code == "IST0158");
        let text = mismatch.map(ToString::to_string).unwrap_or_default();
        assert!(text.ends_with(advice), "{text}");
    }
}

/// Text of the findings of one code.
fn told(code: &str, objects: &[Value]) -> String {
    let mut all = Objects::default();
    objects.iter().cloned().for_each(|object| all.add(object));
    let messages = run(&all, Scope::default()).messages;
    let of_code = messages.iter().filter(|message| message.code.code == code);
    of_code
        .map(|message| message.text.clone())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_restart_is_advised_where_it_helps() {
    let pod =
        json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": [{"name": "app"}]}});
    let canary = webhook("istio-sidecar-injector-canary", "canary", None, "canary");
    for (labels, advice) in [
        (json!({"istio.io/rev": "canary"}), "restarting or redeploying"),
        (
            json!({"istio.io/rev": "typo"}),
            "first install revision \"typo\", or label the namespace with one that exists (canary)",
        ),
        (
            json!({"istio-injection": "enabled"}),
            "first make a revision the default one",
        ),
    ] {
        let text = told("IST0103", &[canary.clone(), namespace("a", labels), pod.clone()]);
        assert!(
            text.starts_with("The pod a/p is missing the Istio proxy. ") && text.contains(advice),
            "{text}"
        );
    }
    // Without the webhooks nothing is known of who injects.
    let text = told("IST0103", &[namespace("a", json!({"istio.io/rev": "typo"})), pod]);
    assert!(text.contains("restarting or redeploying"), "{text}");
}

#[test]
fn the_next_installation_injects_who_follows_the_default() {
    let root = json!({"kind": "ConfigMap", "metadata": {"name": "istio-ca-root-cert", "namespace": "a"}});
    for (revision, expected) in [
        ("default", "the next one that is installed injects this namespace again"),
        ("canary", "one of another name does not inject this namespace"),
    ] {
        let text = told(
            "IST0101",
            &[namespace("a", json!({"istio.io/rev": revision})), root.clone()],
        );
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_validator_of_all_revisions_moves_to_another() {
    let mut validator = json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "istiod-default-validator",
        "labels": {"istio.io/rev": "gone"}}, "webhooks": [{"name": "validation.istio.io",
        "clientConfig": {"service": {"namespace": "istio-system", "name": "istiod-gone"}}}]});
    let service = json!({"kind": "Service", "metadata": {"name": "other", "namespace": "istio-system"}});
    validator["metadata"]["annotations"] =
        json!({"meta.helm.sh/release-name": "istio-base", "meta.helm.sh/release-namespace": "istio-system"});
    validator["metadata"]["labels"]["helm.sh/chart"] = json!("base-0.2.0");
    let text = told("IST0139", &[validator, service]);
    assert!(
        text.contains("lead the validator to another with 'helm upgrade istio-base manifests/charts/base"),
        "{text}"
    );
}

#[test]
fn a_tag_is_moved_by_who_made_it() {
    let canary = webhook("istio-sidecar-injector-canary", "canary", None, "canary");
    let mut tag = webhook("istio-revision-tag-prod", "gone", Some("prod"), "prod");
    let text = told("IST0101", &[canary.clone(), tag.clone()]);
    assert!(
        text.contains("'istioctl tag set prod --revision <REVISION> --overwrite', or remove it"),
        "{text}"
    );
    tag["metadata"]["annotations"] =
        json!({"meta.helm.sh/release-name": "tags", "meta.helm.sh/release-namespace": "istio-system"});
    tag["metadata"]["labels"]["helm.sh/chart"] = json!("revisiontags-0.2.0");
    let text = told("IST0101", &[canary.clone(), tag.clone()]);
    assert!(
        text.contains("'helm upgrade tags manifests/charts/revisiontags -n istio-system --reuse-values"),
        "{text}"
    );
    assert!(!text.contains("istioctl"), "{text}");
    tag["metadata"]["labels"]["helm.sh/chart"] = json!("istiod-0.2.0");
    let text = told("IST0101", &[canary, tag]);
    assert!(
        text.contains("--overwrite --force', and take it out of the value revisionTags"),
        "{text}"
    );
}

/// Many names are compared as few are, and beyond a bound it is said that not all were.
#[test]
fn webhooks_of_many_tags_are_compared() {
    let tags = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|index| {
                webhook(
                    &format!("tag-{index}"),
                    "x",
                    Some(&format!("t{index}")),
                    &format!("t{index}"),
                )
            })
            .collect()
    };
    let mut many = tags(120);
    assert_eq!(told("IST0139", &many), "");
    many.push(webhook("last", "x", None, "t119"));
    assert_eq!(told("IST0139", &many).matches("Webhook overlaps").count(), 2);
    let mut all = tags(70);
    for webhook in &mut all {
        webhook["webhooks"][0]["namespaceSelector"] = Value::Null;
    }
    let text = told("IST0139", &all);
    assert!(
        text.contains("70 injection webhooks are too many to compare each with each"),
        "{text}"
    );
}

#[test]
fn gateways_conflict_where_proxies_and_hosts_are_the_same() {
    let gateway = |name: &str, selector: Value, host: &str| {
        json!({"kind": "Gateway", "apiVersion": "networking.istio.io/v1", "metadata": {"name": name, "namespace": "a"},
            "spec": {"selector": selector, "servers": [{"port": {"number": 80}, "hosts": [host]}]}})
    };
    let pod = json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "a", "labels": {"istio": "i", "app": "g"}}});
    let conflicts = |selector: Value, host: &str, pods: &[Value]| {
        let two = [
            gateway("x", json!({"istio": "i"}), "a.com"),
            gateway("y", selector, host),
        ];
        told("IST0145", &[&two[..], pods].concat()).lines().count()
    };
    let narrower = json!({"istio": "i", "app": "g"});
    assert_eq!(conflicts(json!({"istio": "i"}), "a.com", &[]), 2);
    assert_eq!(conflicts(narrower.clone(), "a.com", std::slice::from_ref(&pod)), 2);
    // No pod fits both, the proxies are others, or the longer host goes before.
    assert_eq!(conflicts(narrower, "a.com", &[]), 0);
    assert_eq!(conflicts(json!({"istio": "e"}), "a.com", std::slice::from_ref(&pod)), 0);
    assert_eq!(conflicts(json!({"istio": "i"}), "*.com", &[pod]), 0);
}

#[test]
fn a_port_tells_its_protocol_by_name_or_number() {
    let told = |namespace: &str, port: Value| {
        let service =
            json!({"kind": "Service", "metadata": {"name": "s", "namespace": namespace}, "spec": {"ports": [port]}});
        !told("IST0118", &[service]).is_empty()
    };
    for (port, is_told) in [
        (json!({"name": "web", "port": 80}), true),
        (json!({"name": "http-web", "port": 80}), false),
        (json!({"name": "http_proxy", "port": 80}), false),
        (json!({"name": "db", "port": 3306}), false),
        (json!({"name": "web", "port": 80, "protocol": "UDP"}), false),
        (json!({"name": "web", "port": 80, "appProtocol": "http"}), false),
        (json!({"name": "hbone", "port": 15008}), true),
    ] {
        assert_eq!(told("a", port.clone()), is_told, "{port}");
    }
    assert!(told("istio-system", json!({"name": "web", "port": 80})));
    assert!(!told("kube-system", json!({"name": "web", "port": 80})));
}

#[test]
fn a_finding_is_suppressed_by_either_form_of_its_object() {
    let object = json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "a"}});
    let message = crate::message::Message::about(crate::message::POD_MISSING_PROXY, &object, "");
    for rule in [
        "IST0103=Pod p.a",
        "IST0103=Pod a/p",
        "IST0103=Pod *.a",
        "IST0103=Pod a/*",
        "IST0103=*",
    ] {
        assert!(message.is_suppressed_by(rule), "{rule}");
    }
    for rule in ["IST0104=Pod p.a", "IST0103=Pod p", "IST0103=Pod *.b", "IST0103"] {
        assert!(!message.is_suppressed_by(rule), "{rule}");
    }
}
