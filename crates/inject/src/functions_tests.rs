#![allow(clippy::unwrap_used)]
use gotemplate::Templates;
use serde_json::json;

use super::*;

fn check(template: &str, data: Json, expected: &str) {
    let templates = Templates::parse([("test", template)], extend).unwrap();
    assert_eq!(
        templates.render("test", &from_json(&data)).unwrap(),
        expected,
        "{template}"
    );
}

#[test]
fn only_what_was_not_given_has_a_default() {
    check(
        r#"{{ valueOrDefault .zero 5 }} {{ valueOrDefault .off true }} {{ valueOrDefault .empty "x" }} {{ valueOrDefault .absent "y" }}"#,
        json!({"zero": 0, "off": false, "empty": ""}),
        "0 false x y",
    );
}

#[test]
fn a_directory_ends_with_its_slash() {
    check(
        r#"{{ directory "/etc/certs/ca.pem" }} {{ directory "/ca.pem" }} [{{ directory "ca.pem" }}]"#,
        json!({}),
        "/etc/certs/ / []",
    );
}

#[test]
fn times_are_written_as_go_does() {
    check(
        r#"{{ range . }}{{ formatDuration . }} {{ end }}"#,
        json!(["45s", "90s", "3600s", "0.5s", "1.5s", "0s", "0.000002s", "3661s"]),
        "45s 1m30s 1h0m0s 500ms 1.5s 0s 2µs 1h1m1s ",
    );
}

#[test]
fn a_port_is_excluded_once() {
    check(r#"{{ excludeInboundPort 15020 "4, 5" }}"#, json!({}), "4,5,15020");
    check(
        r#"{{ excludeInboundPort 15020 "4,15020, 5" }}"#,
        json!({}),
        "4,15020, 5",
    );
    check(r#"{{ excludeInboundPort 0 "4, 5" }}"#, json!({}), "4, 5");
    check(r#"{{ excludeInboundPort " 80 " "" }}"#, json!({}), "80");
}

#[test]
fn the_proxys_ports_are_inbound_and_not_the_applications() {
    let containers = json!([
        {"Name": "app", "Ports": [{"ContainerPort": 80}, {"ContainerPort": 53, "Protocol": "UDP"}]},
        {"Name": "istio-proxy", "Ports": [{"ContainerPort": 15090, "Protocol": "TCP"}]},
    ]);
    check("{{ includeInboundPorts . }}", containers.clone(), "80,15090");
    check("{{ applicationPorts . }}", containers, "80");
}

#[test]
fn json_goes_through() {
    check(
        r#"{{ toJSON .m }} {{ toJSON .absent }} {{ toJsonMap .m .n }} {{ (fromJSON .text).a }} {{ fromJSON "no" }}"#,
        json!({"m": {"a": "x && y"}, "n": {"a": "z", "b": "<"}, "text": "{\"a\": [1]}"}),
        r#"{"a":"x \u0026\u0026 y"} {} {"a":"z","b":"\u003c"} [1] {}"#,
    );
}

#[test]
fn nothing_is_left_out_with_what_held_only_it() {
    check(
        r#"{{ toJSON (omitNil .) }}"#,
        json!({"a": null, "b": {"c": null}, "d": {}, "e": [null, {"f": null}, 1], "g": [], "h": {"i": 0}}),
        r#"{"d":{},"e":[1],"g":[],"h":{"i":0}}"#,
    );
}

#[test]
fn a_network_is_added_to_what_was_written() {
    let add = |existing: &str, network: &str, expected: &str| {
        check(
            "{{ appendMultusNetwork .existing .network }}",
            json!({"existing": existing, "network": network}),
            expected,
        );
    };
    add("", "istio-cni", "istio-cni");
    add("a, istio-cni", "istio-cni", "a, istio-cni");
    add("a", "istio-cni", "a, istio-cni");
    add(
        "[\n  {\"name\": \"a\"}\n]",
        "istio-cni",
        "[\n  {\"name\": \"a\"}\n, {\"name\": \"istio-cni\"}]",
    );
    add(
        r#"[{"name": "istio-cni", "interface": "x"}]"#,
        "istio-cni",
        r#"[{"name": "istio-cni", "interface": "x"}]"#,
    );
    add(
        r#"[{"name": "istio-cni"}]"#,
        "kube-system/istio-cni",
        r#"[{"name": "istio-cni"}, {"name": "istio-cni", "namespace": "kube-system"}]"#,
    );
    add("[broken]", "istio-cni", "[broken]");
}

#[test]
fn a_service_says_who_it_is() {
    let attributes = |annotations: Json, labels: Json, namespace: &str, images: &[&str], expected: &str| {
        let containers = images.iter().enumerate();
        let containers: Json = containers
            .map(|(n, image)| json!({"Name": format!("c{n}"), "Image": image}))
            .collect();
        let mesh = json!({"ExtensionProviders": [{"Opentelemetry": {"ServiceAttributeEnrichment": "OTEL_SEMANTIC_CONVENTIONS"}}]});
        check(
            "{{ otelResourceAttributes .mesh .annotations .labels .namespace .containers }}",
            json!({"mesh": mesh, "annotations": annotations, "labels": labels, "namespace": namespace, "containers": containers}),
            expected,
        );
    };
    attributes(
        json!({}),
        json!({}),
        "shop",
        &["registry:5000/web:1.2@sha256:ab"],
        "service.namespace=shop,service.version=1.2@sha256:ab,service.instance.id=shop.$(POD_NAME).c0",
    );
    attributes(
        json!({"resource.opentelemetry.io/service.version": "9"}),
        json!({"app.kubernetes.io/version": "8"}),
        "shop",
        &["web", "log"],
        "service.namespace=shop,service.version=9,service.instance.id=shop.$(POD_NAME).c0",
    );
    attributes(
        json!({}),
        json!({"service.istio.io/canonical-revision": "7"}),
        "",
        &["registry:5000/web"],
        "service.instance.id=.$(POD_NAME).c0",
    );
}
