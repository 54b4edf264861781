//! Everything that is made for a stock Envoy is accepted by one: `envoy --mode validate` on a static bootstrap.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::ProxySpec;
use translate::{Generator, Proxy, ResourceType};

/// The Envoy of the project's own tools; `None` (said in a line) if it is not there.
fn envoy() -> Option<PathBuf> {
    let path = std::env::var_os("TRYSAIL_ENVOY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/envoy"),
        PathBuf::from,
    );
    if !path.exists() {
        println!("skipped: {} is not there; `make build` puts it there", path.display());
        return None;
    }
    Some(path)
}

fn agent_cluster(name: &str) -> Value {
    json!({
        "name": name, "type": "STATIC", "connectTimeout": "1s",
        "typedExtensionProtocolOptions": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicitHttpConfig": { "http2ProtocolOptions": {} },
            },
        },
        "loadAssignment": { "clusterName": name, "endpoints": [{ "lbEndpoints": [{ "endpoint": {
            "address": { "pipe": { "path": "/nowhere" } } } }] }] },
    })
}

/// A bootstrap with all resources in it: what is asked for by name stands in listeners and clusters of its own.
fn bootstrap(sets: &BTreeMap<ResourceType, BTreeMap<String, Value>>) -> Value {
    let mut clusters = vec![agent_cluster("xds-grpc"), agent_cluster("sds-grpc")];
    clusters.extend(sets[&ResourceType::Cluster].values().cloned());
    for (name, assignment) in &sets[&ResourceType::Endpoints] {
        clusters.push(json!({
            "name": format!("check-{name}"), "type": "STATIC", "connectTimeout": "1s", "loadAssignment": assignment,
        }));
    }
    let mut listeners: Vec<Value> = sets[&ResourceType::Listener].values().cloned().collect();
    for (port, (name, routes)) in (20000..).zip(&sets[&ResourceType::Route]) {
        listeners.push(json!({
            "name": format!("check-{name}"),
            "address": { "socketAddress": { "address": "127.0.0.1", "portValue": port } },
            "filterChains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "statPrefix": "check", "routeConfig": routes,
                    "httpFilters": [{ "name": "envoy.filters.http.router", "typedConfig": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
                },
            }] }],
        }));
    }
    json!({
        "node": { "id": "check", "cluster": "check" },
        "dynamicResources": { "adsConfig": {
            "apiType": "DELTA_GRPC", "transportApiVersion": "V3",
            "grpcServices": [{ "envoyGrpc": { "clusterName": "xds-grpc" } }],
        } },
        "staticResources": {
            "clusters": clusters, "listeners": listeners,
            "secrets": sets[&ResourceType::Secret].values().cloned().collect::<Vec<_>>(),
        },
    })
}

/// What Envoy says of everything that a proxy is sent; empty if it accepts all of it.
fn complaints(envoy: &Path, objects: &str, mesh_config: &str, spec: &ProxySpec) -> String {
    let mesh = testkit::mesh(objects, mesh_config).unwrap();
    let mut generator = Generator::new(mesh.snapshot());
    let mut proxy = Proxy::of_node(&spec.node()).unwrap();
    proxy.secrets = Some(mesh::SecretReader::of_verified_namespace(&spec.namespace));
    let class = generator.open(proxy.class(generator.snapshot()));
    let sets = generator
        .sets(class)
        .into_iter()
        .map(|(t, set)| (t, testkit::resources_json(&set)))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&bootstrap(&sets)).unwrap()).unwrap();
    let output = Command::new(envoy)
        .args([
            "--mode",
            "validate",
            "--log-level",
            "warn",
            "--base-id",
            "0",
            "--use-dynamic-base-id",
            "-c",
        ])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    if output.status.success() { String::new() } else { text }
}

#[test]
fn a_mesh_with_every_translated_kind_is_accepted() {
    let Some(envoy) = envoy() else { return };
    let objects = include_str!("fixtures/shop.yaml");
    let sidecar = ProxySpec::sidecar("shop", "catalog-0", "10.244.1.10", &[("app", "catalog")]);
    let gateway = ProxySpec {
        role: "router".to_owned(),
        ..ProxySpec::sidecar("edge", "gateway-0", "10.244.0.2", &[("istio", "ingressgateway")])
    };
    for spec in [sidecar, gateway] {
        let text = complaints(&envoy, objects, "accessLogFile: /dev/stdout", &spec);
        assert_eq!(text, "", "{}", spec.name);
    }
}

/// All golden scenarios, whether or not the outcome is the golden one. Takes minutes: run with `--ignored`.
#[test]
#[ignore = "takes minutes"]
fn all_golden_scenarios_are_accepted() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/xds");
    let (Some(envoy), true) = (envoy(), data.is_dir()) else {
        return;
    };
    let mut refused = Vec::new();
    let mut folders: Vec<_> = std::fs::read_dir(&data)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    folders.sort();
    for folder in folders {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        if testkit::mesh(&read("input.yaml"), &read("mesh.yaml")).is_err() {
            continue;
        }
        let mut proxies = testkit::documents(&read("proxies.yaml")).unwrap();
        let list: Vec<ProxySpec> = serde_json::from_value(proxies.remove(0)["proxies"].take()).unwrap();
        for spec in list {
            let text = complaints(&envoy, &read("input.yaml"), &read("mesh.yaml"), &spec);
            if !text.is_empty() {
                let last = text
                    .lines()
                    .rfind(|l| !l.trim().is_empty())
                    .unwrap_or_default()
                    .to_owned();
                refused.push(format!(
                    "{} {}: {last}",
                    folder.file_name().unwrap().to_string_lossy(),
                    spec.name
                ));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
