//! A change costs what it touches: which answers are made anew after it, counted by what was asked.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use insta::assert_snapshot;
use mesh::Event;
use testkit::ProxySpec;
use translate::{Generator, Proxy, ResourceType};

/// Answers that are made of others by looking them up: they may be many, and each costs next to nothing.
const LOOKUPS: [&str; 5] = ["Bound", "BoundRoutes", "Known", "HostRules", "ByGateway"];

/// A Gateway, a VirtualService and a service.
fn host(number: usize, timeout: &str, more: &str, endpoint: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gateway-{number}, namespace: edge }}
spec:
  selector: {{ app: edge }}
  servers:
  - {{ port: {{ number: 80, name: http, protocol: HTTP }}, hosts: [a-{number}.example.com] }}
  - port: {{ number: 443, name: https, protocol: HTTPS }}
    hosts: [a-{number}.example.com{more}]
    tls: {{ mode: ISTIO_MUTUAL }}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: routes-{number}, namespace: edge }}
spec:
  hosts: [a-{number}.example.com]
  gateways: [edge/gateway-{number}, mesh]
  http:
  - timeout: {timeout}
    route: [{{ destination: {{ host: service-{number}.example.com }} }}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: service-{number}, namespace: edge }}
spec:
  hosts: [service-{number}.example.com]
  addresses: [10.96.7.{number}]
  ports: [{{ number: 80, name: http, protocol: HTTP }}, {{ number: 9000, name: tcp, protocol: TCP }}]
  resolution: STATIC
  endpoints: [{{ address: {endpoint} }}]
---"
    )
}

/// What is computed after hosts 0 to 7 are there and these objects change.
fn check(role: &str, changed: &str) -> String {
    let text: String = (0..8).map(|number| host(number, "1s", "", "10.0.0.1")).collect();
    check_mesh(&text, role, changed)
}

/// What is computed after objects change in a mesh.
fn check_mesh(text: &str, role: &str, changed: &str) -> String {
    let mut mesh = testkit::mesh(text, "").unwrap();
    let spec = ProxySpec {
        role: role.to_owned(),
        ..ProxySpec::sidecar("edge", "edge-0", "10.244.0.2", &[("app", "edge")])
    };
    let class = Proxy::of_node(&spec.node()).unwrap().class(&mesh.snapshot());
    let mut generator = Generator::new(mesh.snapshot());
    let id = generator.open(class);
    generator.sets(id);
    let before = generator.computed();
    let objects = testkit::objects(changed).unwrap();
    let update = mesh.apply(objects.into_iter().map(Event::Apply));
    let mut shown = String::new();
    let said: Vec<ResourceType> = generator.update(&update).into_iter().map(|(_, of)| of).collect();
    generator.sets(id);
    writeln!(shown, "differs: {said:?}").unwrap();
    for (name, count) in generator.computed() {
        let count = count - before.get(name).copied().unwrap_or_default();
        if count > 0 && !LOOKUPS.contains(&name) {
            writeln!(shown, "{name}: {count}").unwrap();
        }
    }
    shown
}

#[test]
fn a_gateway_makes_the_routes_of_one_virtual_service_anew() {
    // Two configurations of nine have the host. Its service has two ports, so that its routes are of the listener's,
    // which is found out by making them.
    assert_snapshot!(check("router", &host(3, "2s", "", "10.0.0.1")), @r"
    differs: [Route]
    Class: 1
    GatewayRoutes: 2
    Routes: 3
    Scope: 1
    SelectsByLabels: 1
    VirtualServices: 1
    ");
}

#[test]
fn a_gateway_makes_the_chain_of_one_server_anew() {
    assert_snapshot!(check("router", &host(3, "1s", ", b.example.com", "10.0.0.1")), @r"
    differs: [Listener]
    Class: 2
    GatewayRoutes: 1
    HttpsChain: 1
    Listener: 1
    PassesThrough: 1
    Servers: 1
    ");
}

#[test]
fn one_service_s_endpoints_cost_one_assignment() {
    assert_snapshot!(check("router", &host(3, "1s", "", "10.0.0.2")), @r"
    differs: [Endpoints]
    Endpoints: 1
    ");
}

#[test]
fn a_sidecar_makes_one_virtual_host_anew() {
    assert_snapshot!(check("sidecar", &host(3, "2s", "", "10.0.0.1")), @r"
    differs: [Route]
    OutboundRoutes: 1
    Outward: 1
    Routes: 1
    Scope: 1
    SelectsByLabels: 1
    VirtualServices: 1
    ");
}

#[test]
fn a_sidecar_makes_the_listeners_of_one_service_anew() {
    assert_snapshot!(check("sidecar", &host(3, "1s", "", "10.0.0.1").replace("9000", "9001")), @r"
    differs: [Cluster, Endpoints, Listener]
    Class: 3
    Clusters: 1
    Common: 1
    Endpoints: 1
    Listener: 1
    OutboundChains: 1
    OutboundClusters: 1
    OutboundEndpoints: 1
    OutboundRoutes: 1
    Outward: 1
    Scope: 1
    SelectsByLabels: 1
    Sensitivity: 1
    Targets: 1
    VirtualHost: 1
    VirtualHosts: 1
    Visible: 1
    ");
}

#[test]
fn a_policy_is_made_anew_alone() {
    let policy = |name: &str, method: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: {name}, namespace: edge }}
spec: {{ action: DENY, rules: [{{ to: [{{ operation: {{ methods: [{method}] }} }}] }}] }}
---"
        )
    };
    let text: String = (0..8)
        .map(|number| policy(&format!("policy-{number}"), "PUT"))
        .collect();
    assert_snapshot!(check_mesh(&text, "sidecar", &policy("policy-3", "POST")), @r"
    differs: [Listener]
    Class: 1
    Common: 1
    Inbound: 1
    Manager: 1
    Policies: 1
    ");
}
