//! What proxies of small meshes are sent, in outline: names, matches, filters, and the routes in full.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use testkit::ProxySpec;
use translate::{Generator, Proxy, ResourceType};

const SHOP: &str = include_str!("fixtures/outlines.yaml");

/// Everything that a proxy is sent, of a mesh of the fixture and further objects.
fn sent(more: &str, spec: &ProxySpec) -> BTreeMap<ResourceType, BTreeMap<String, Value>> {
    let mesh = testkit::mesh(&format!("{SHOP}\n---\n{more}"), "").unwrap();
    let mut generator = Generator::new(mesh.snapshot());
    let proxy = Proxy::of_node(&spec.node()).unwrap();
    let class = generator.open(proxy.class(&mesh.snapshot()));
    generator
        .sets(class)
        .into_iter()
        .map(|(kind, set)| (kind, testkit::resources_json(&set)))
        .collect()
}

fn client() -> ProxySpec {
    ProxySpec::sidecar("shop", "client-0", "10.244.0.5", &[("app", "client")])
}

fn server() -> ProxySpec {
    ProxySpec::sidecar("shop", "orders-0", "10.244.1.12", &[("app", "orders")])
}

fn names(list: &Value, field: &str) -> String {
    let names = list.as_array().into_iter().flatten();
    names.filter_map(|f| f[field].as_str()).collect::<Vec<_>>().join(", ")
}

/// Listeners with their chains: what they match, and which filters traffic passes.
fn listeners(sent: &BTreeMap<ResourceType, BTreeMap<String, Value>>) -> String {
    let mut text = String::new();
    for (name, listener) in &sent[&ResourceType::Listener] {
        writeln!(text, "{name}: {}", names(&listener["listenerFilters"], "name")).unwrap();
        let chains = listener["filterChains"].as_array().into_iter().flatten();
        for chain in chains.chain(listener.get("defaultFilterChain")) {
            let condition = chain.get("filterChainMatch").map_or_else(String::new, Value::to_string);
            let tls = if chain.get("transportSocket").is_some() {
                " ends TLS"
            } else {
                ""
            };
            writeln!(text, "  {condition}{tls}").unwrap();
            for filter in chain["filters"].as_array().unwrap() {
                let config = &filter["typedConfig"];
                let to = config["cluster"].as_str().or(config["rds"]["routeConfigName"].as_str());
                writeln!(
                    text,
                    "    {} {}",
                    filter["name"].as_str().unwrap(),
                    to.unwrap_or_default()
                )
                .unwrap();
                let http = names(&config["httpFilters"], "name");
                if !http.is_empty() {
                    writeln!(text, "      {http}").unwrap();
                }
            }
        }
    }
    text
}

fn list(sent: &BTreeMap<ResourceType, BTreeMap<String, Value>>, kind: ResourceType) -> String {
    sent[&kind].keys().cloned().collect::<Vec<_>>().join("\n")
}

#[test]
fn a_sidecar_sees_the_services_of_the_mesh() {
    let sent = sent("", &client());
    insta::assert_snapshot!("clusters", list(&sent, ResourceType::Cluster));
    insta::assert_snapshot!("listeners", listeners(&sent));
}

#[test]
fn a_sidecar_object_narrows_what_is_seen() {
    let narrow = r"
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: default, namespace: shop }
spec: { egress: [{ hosts: [./orders.shop.svc.cluster.local] }], outboundTrafficPolicy: { mode: REGISTRY_ONLY } }
";
    let sent = sent(narrow, &client());
    insta::assert_snapshot!("narrow_clusters", list(&sent, ResourceType::Cluster));
    let last = sent[&ResourceType::Route]["80"]["virtualHosts"]
        .as_array()
        .unwrap()
        .last()
        .cloned();
    insta::assert_snapshot!("narrow_unknown_hosts", format!("{:#}", last.unwrap()));
}

#[test]
fn policies_apply_to_what_arrives() {
    let policies = r#"
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: shop }
spec: { mtls: { mode: STRICT } }
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: shop }
spec: { selector: { matchLabels: { app: orders } }, jwtRules: [{ issuer: https://a.example, jwks: '{"keys":[]}' }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: readers, namespace: shop }
spec:
  selector: { matchLabels: { app: orders } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/client] } }], to: [{ operation: { methods: [GET] } }] }]
"#;
    insta::assert_snapshot!("policies", listeners(&sent(policies, &server())));
}

#[test]
fn weights_and_matches_become_routes() {
    let routes = r"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: orders, namespace: shop }
spec: { host: orders, subsets: [{ name: old, labels: { version: v1 } }, { name: new, labels: { version: v2 } }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: orders, namespace: shop }
spec:
  hosts: [orders]
  http:
  - match: [{ headers: { x-tester: { exact: 'yes' } } }]
    route: [{ destination: { host: orders, subset: new } }]
  - route:
    - { destination: { host: orders, subset: old }, weight: 90 }
    - { destination: { host: orders, subset: new }, weight: 10 }
";
    let sent = sent(routes, &client());
    let hosts = sent[&ResourceType::Route]["80"]["virtualHosts"].as_array().unwrap();
    let orders = hosts
        .iter()
        .find(|h| h["name"] == "orders.shop.svc.cluster.local:80")
        .unwrap();
    insta::assert_snapshot!("split", format!("{:#}", orders["routes"]));
}
