//! The charts, rendered as `istioctl` does, against the rules they must agree with.
#![allow(clippy::unwrap_used)]

use install::assets::Assets;
use install::chart::{Chart, Release};
use install::component::{Rendering, render};
use install::input::{Input, resolve};
use install::object::Object;
use revision::name::{Revision, Tag};
use revision::webhook::{self, Options, Precedence};
use serde_json::{Value, json};

fn generate(settings: &[&str]) -> Vec<Object> {
    let assets = Assets::embedded();
    let input = Input {
        settings: settings.iter().map(|s| (*s).to_owned()).collect(),
        ..Input::default()
    };
    let operator = resolve(&input, &assets).unwrap();
    let components = render(&operator, &assets, &Rendering::default()).unwrap();
    components.into_iter().flat_map(|component| component.objects).collect()
}

fn find<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Object {
    objects
        .iter()
        .find(|o| o.kind() == kind && o.name() == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn selectors(webhook: &Value) -> Value {
    json!({"name": webhook["name"], "ns": webhook["namespaceSelector"], "obj": webhook["objectSelector"]})
}

fn check_webhooks(object: &Object, expected: Vec<webhook::Webhook>) {
    let rendered: Vec<Value> = object.0["webhooks"].as_array().unwrap().iter().map(selectors).collect();
    let expected: Vec<Value> = expected
        .into_iter()
        .map(|w| json!({"name": w.name, "ns": w.namespaces.to_label_selector(), "obj": w.objects.to_label_selector()}))
        .collect();
    assert_eq!(rendered, expected, "{}", object.name());
}

fn options(automatic: bool, precedence: Precedence) -> Options {
    Options { automatic, precedence }
}

#[test]
fn webhooks_select_what_the_rules_say() {
    let unnamed = generate(&["values.sidecarInjectorWebhook.enableNamespacesByDefault=true"]);
    let object = find(&unnamed, "MutatingWebhookConfiguration", "istio-sidecar-injector");
    check_webhooks(
        object,
        webhook::of_revision(&Revision::unnamed(), options(true, Precedence::Namespace)),
    );

    let canary = generate(&["revision=canary", "values.revisionTags={default,prod}"]);
    let revision = Revision::parse("canary").unwrap();
    let object = find(&canary, "MutatingWebhookConfiguration", "istio-sidecar-injector-canary");
    check_webhooks(object, webhook::of_revision(&revision, Options::default()));
    for tag in ["default", "prod"] {
        let object = find(
            &canary,
            "MutatingWebhookConfiguration",
            &format!("istio-revision-tag-{tag}"),
        );
        check_webhooks(object, webhook::of_tag(&Tag::parse(tag).unwrap(), Options::default()));
        assert_eq!(
            object.0.pointer("/webhooks/0/clientConfig/service/name").unwrap(),
            "istiod-canary"
        );
    }
}

#[test]
fn webhooks_of_the_other_precedence_select_what_the_rules_say() {
    let settings = |more: &[&'static str]| {
        let mut settings = vec!["values.sidecarInjectorWebhook.revisionLabelPrecedence=pod"];
        settings.extend(more);
        generate(&settings)
    };
    let unnamed = settings(&["values.sidecarInjectorWebhook.enableNamespacesByDefault=true"]);
    let object = find(&unnamed, "MutatingWebhookConfiguration", "istio-sidecar-injector");
    check_webhooks(
        object,
        webhook::of_revision(&Revision::unnamed(), options(true, Precedence::Pod)),
    );

    let canary = settings(&["revision=canary", "values.revisionTags={default,prod}"]);
    let revision = Revision::parse("canary").unwrap();
    let object = find(&canary, "MutatingWebhookConfiguration", "istio-sidecar-injector-canary");
    check_webhooks(object, webhook::of_revision(&revision, options(false, Precedence::Pod)));
    for tag in ["default", "prod"] {
        let name = format!("istio-revision-tag-{tag}");
        let object = find(&canary, "MutatingWebhookConfiguration", &name);
        check_webhooks(
            object,
            webhook::of_tag(&Tag::parse(tag).unwrap(), options(false, Precedence::Pod)),
        );
    }
}

fn generate_file(text: &str) -> Vec<Object> {
    let assets = Assets::embedded();
    let input = Input {
        files: vec![("mesh.yaml".to_owned(), text.to_owned())],
        images: Some(("docker.io/mesh".to_owned(), "1.0".to_owned())),
        ..Input::default()
    };
    let operator = resolve(&input, &assets).unwrap();
    let components = render(&operator, &assets, &Rendering::default()).unwrap();
    components.into_iter().flat_map(|component| component.objects).collect()
}

/// Values of rendered objects: `Kind/name` and a JSON pointer, with what is expected there.
fn check_file(text: &str, expected: &[(&str, &str, Value)]) {
    let objects = generate_file(text);
    for (object, pointer, value) in expected {
        let (kind, name) = object.split_once('/').unwrap();
        let found = find(&objects, kind, name).0.pointer(pointer);
        assert_eq!(found.unwrap_or(&Value::Null), value, "{object} {pointer}");
    }
}

#[test]
fn a_listed_gateway_is_on_and_its_container_has_the_ports_of_its_service() {
    check_file(
        "spec:\n  profile: minimal\n  components:\n    ingressGateways:\n    - name: edge\n      k8s:\n        service:\n          \
         ports:\n          - {name: tls, port: 15443, targetPort: 15443}\n          - {name: dns, port: 5353}\n          - {name: \
         http2, port: 8081, targetPort: web}\n",
        &[
            (
                "Service/edge",
                "/spec/ports",
                json!([{"name": "tls", "port": 15443, "targetPort": 15443}, {"name": "dns", "port": 5353},
                    {"name": "http2", "port": 8081, "targetPort": "web"}]),
            ),
            (
                "Deployment/edge",
                "/spec/template/spec/containers/0/ports",
                json!([{"containerPort": 15443, "protocol": "TCP"}, {"containerPort": 5353, "protocol": "TCP"},
                    {"containerPort": 8081, "name": "web", "protocol": "TCP"},
                    {"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}]),
            ),
        ],
    );
}

#[test]
fn the_image_of_the_control_plane_is_not_that_of_the_proxies() {
    let image = "/spec/template/spec/containers/0/image";
    check_file(
        "spec:\n  components:\n    pilot: {hub: example.com/own, tag: 2}\n    ingressGateways:\n    - {name: edge, tag: special}\n",
        &[
            ("Deployment/istiod", image, json!("example.com/own/istiod:2")),
            ("Deployment/edge", image, json!("docker.io/mesh/proxyv2:special")),
        ],
    );
    let values = |text: &str| {
        let objects = generate_file(text);
        find(&objects, "ConfigMap", "istio-sidecar-injector").0["data"]["values"].clone()
    };
    assert_eq!(
        values("spec: {components: {pilot: {hub: example.com/own}}}"),
        values("spec: {}"),
        "sidecars"
    );
}

#[test]
fn a_revision_shares_no_object_and_no_pod_with_another() {
    let (unnamed, canary) = (
        generate(&["profile=minimal"]),
        generate(&["profile=minimal", "revision=canary"]),
    );
    let pilot = |objects: &[Object]| -> Vec<String> {
        let base = [
            "CustomResourceDefinition",
            "ServiceAccount/istio-system/istio-reader-service-account",
        ];
        objects
            .iter()
            .map(|o| o.id().path())
            .filter(|id| !base.iter().any(|b| id.starts_with(b)))
            .collect()
    };
    assert!(pilot(&unnamed).iter().all(|id| !pilot(&canary).contains(id)));
    let selects = |service: &Object, deployment: &Object| {
        let labels = deployment.0.pointer("/spec/template/metadata/labels").unwrap();
        service
            .0
            .pointer("/spec/selector")
            .unwrap()
            .as_object()
            .unwrap()
            .iter()
            .all(|(k, v)| labels.get(k) == Some(v))
    };
    for (services, own, other) in [(&unnamed, &unnamed, &canary), (&canary, &canary, &unnamed)] {
        let service = services.iter().find(|o| o.kind() == "Service").unwrap();
        assert!(selects(service, own.iter().find(|o| o.kind() == "Deployment").unwrap()));
        assert!(!selects(
            service,
            other.iter().find(|o| o.kind() == "Deployment").unwrap()
        ));
    }
}

#[test]
fn a_gateway_follows_the_revision_in_place() {
    let (old, new) = (generate(&[]), generate(&["revision=canary"]));
    let gateway = |objects: &[Object]| find(objects, "Deployment", "istio-ingressgateway").0.clone();
    let (old, new) = (gateway(&old), gateway(&new));
    assert_eq!(old["spec"]["selector"], new["spec"]["selector"]);
    let text = new.to_string();
    assert!(text.contains("istiod-canary.istio-system.svc:15012") && text.contains(r#""name":"istio-canary""#));
}

#[test]
fn what_istiod_keeps_is_rendered_only_for_the_first_moment() {
    let assets = Assets::embedded();
    let check = |chart: &str, policy: &str, is_upgrade: bool, expected: Option<&str>| {
        let release = Release {
            name: "mesh",
            namespace: "istio-system",
            is_upgrade,
        };
        let values = json!({"base": {"validationFailurePolicy": policy}});
        let objects = Chart::load(&assets, chart).unwrap().render(&release, &values).unwrap();
        let validator = objects
            .iter()
            .find(|o| o.kind() == "ValidatingWebhookConfiguration")
            .unwrap();
        let webhook = &validator.0["webhooks"][0];
        assert_eq!(
            webhook.get("failurePolicy").and_then(Value::as_str),
            expected,
            "{chart} {policy} {is_upgrade}"
        );
        assert_eq!(webhook["clientConfig"].get("caBundle"), None, "{chart}");
    };
    for chart in ["base", "istiod"] {
        check(chart, "", false, Some("Ignore"));
        check(chart, "", true, None);
        check(chart, "Runtime", false, None);
        check(chart, "Fail", true, Some("Fail"));
    }
}

#[test]
fn both_gateway_charts_have_the_same_templates() {
    let assets = Assets::embedded();
    let templates = |chart: &str| -> Vec<(String, String)> {
        let folder = format!("charts/gateways/{chart}/templates");
        assets
            .below(&folder)
            .map(|(path, text)| (path.to_owned(), text.to_owned()))
            .collect()
    };
    assert_eq!(templates("istio-ingress"), templates("istio-egress"));
    let shared = |chart: &str| {
        ["_helpers.tpl", "revision-tags.yaml"].map(|file| {
            assets
                .get(&format!("charts/{chart}/templates/{file}"))
                .unwrap()
                .to_owned()
        })
    };
    assert_eq!(shared("istiod"), shared("revisiontags"));
}

#[test]
fn charts_carry_the_version_of_the_workspace() {
    let assets = Assets::embedded();
    for chart in [
        "base",
        "istiod",
        "gateway",
        "gateways/istio-ingress",
        "gateways/istio-egress",
        "revisiontags",
    ] {
        let meta = assets.get(&format!("charts/{chart}/Chart.yaml")).unwrap();
        let expected = format!("version: {0}\nappVersion: \"{0}\"", env!("CARGO_PKG_VERSION"));
        assert!(meta.contains(&expected), "charts/{chart}/Chart.yaml");
    }
    for chart in ["istiod", "gateways/istio-ingress", "gateways/istio-egress"] {
        let values = assets.get(&format!("charts/{chart}/values.yaml")).unwrap();
        assert!(
            values.contains(&format!("\n  tag: {}\n", env!("CARGO_PKG_VERSION"))),
            "charts/{chart}/values.yaml"
        );
    }
}

/// `UPDATE=1 cargo test -p install` writes the file anew.
#[test]
fn crds_are_those_of_the_types() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/charts/base/files/crd-all.gen.yaml");
    let documents: Vec<String> = api::crds()
        .unwrap()
        .iter()
        .map(|crd| install::yaml::to_sorted(&serde_json::to_value(crd).unwrap()))
        .collect();
    let text = format!(
        "# Generated from the types in crates/api; see crates/install/tests/charts.rs.\n{}\n",
        documents.join("\n---\n")
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(stored == text, "run UPDATE=1 cargo test -p install --test charts");
}
