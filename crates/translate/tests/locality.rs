//! Endpoints as seen from where the client is, wherever they stand: in EDS, or in clusters that resolve names.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use testkit::ProxySpec;
use translate::{Generator, Proxy, ResourceType};

fn mesh_of(resolution: &str, priority: &str) -> String {
    let (a, b) = match resolution {
        "STATIC" => ("192.0.2.1", "192.0.2.2"),
        _ => ("a.example.com", "b.example.com"),
    };
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: zoned, namespace: shop }}
spec:
  hosts: [zoned.example.com]
  resolution: {resolution}
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  endpoints:
  - {{ address: {a}, locality: r1/z1, labels: {{ version: v1 }} }}
  - {{ address: {b}, locality: r1/z2, labels: {{ version: v2 }} }}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: zoned, namespace: shop }}
spec:
  host: zoned.example.com
  trafficPolicy:
    outlierDetection: {{ consecutive5xxErrors: 1 }}
    loadBalancer: {{ localityLbSetting: {{ failoverPriority: [{priority}] }} }}
"
    )
}

/// Zones by priority, the first for a client there, of each of two clients that differ in place and version only. Both
/// ask one generator, so that an answer which is kept for the wrong one is seen.
fn check(resolution: &str, priority: &str, expected: [&str; 2]) {
    let mesh = testkit::mesh(&mesh_of(resolution, priority), "").unwrap();
    let mut generator = Generator::new(mesh.snapshot());
    let seen = [("r1/z1", "v1"), ("r1/z2", "v2")].map(|(locality, version)| {
        let spec = ProxySpec {
            locality: locality.to_owned(),
            ..ProxySpec::sidecar("other", "client", "10.0.0.1", &[("version", version)])
        };
        let proxy = Proxy::of_node(&spec.node()).unwrap();
        let class = generator.open(generator.class_of(&proxy));
        let kind = match resolution {
            "STATIC" => ResourceType::Endpoints,
            _ => ResourceType::Cluster,
        };
        let set = generator.set(class, kind);
        let found = testkit::resource_json(set.get("outbound|80||zoned.example.com").unwrap());
        let assignment = found.get("loadAssignment").unwrap_or(&found);
        let mut groups: Vec<(u64, String)> = assignment["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| {
                let zone = group["locality"]["zone"].as_str().unwrap().to_owned();
                (group.get("priority").and_then(Value::as_u64).unwrap_or_default(), zone)
            })
            .collect();
        groups.sort();
        let shown: Vec<String> = groups
            .iter()
            .map(|(priority, zone)| format!("{priority}:{zone}"))
            .collect();
        shown.join(" ")
    });
    assert_eq!(seen, expected, "{resolution}, {priority}");
}

#[test]
fn the_nearest_comes_first() {
    for resolution in ["STATIC", "DNS"] {
        check(resolution, "", ["0:z1 1:z2", "0:z2 1:z1"]);
    }
}

#[test]
fn who_agrees_in_labels_comes_first() {
    for resolution in ["STATIC", "DNS"] {
        check(resolution, "version", ["0:z1 1:z2", "0:z2 1:z1"]);
        check(resolution, "'version=v2'", ["0:z2 1:z1", "0:z2 1:z1"]);
    }
}

/// The node of a client is known from its pod.
#[test]
fn who_is_on_the_same_node_comes_first() {
    let pods: String = [("a", "10.0.1.1", "node-1"), ("b", "10.0.1.2", "node-2")]
        .map(|(name, ip, node)| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: shop, labels: {{ app: {name} }} }}\n\
                 spec: {{ nodeName: {node}, containers: [{{ name: app }}] }}\nstatus: {{ phase: Running, podIP: {ip} }}\n"
            )
        })
        .concat();
    let text = format!(
        "{pods}---
apiVersion: v1
kind: Service
metadata: {{ name: svc, namespace: shop }}
spec: {{ clusterIP: 10.9.0.1, ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: svc-x, namespace: shop, labels: {{ kubernetes.io/service-name: svc }} }}
addressType: IPv4
ports: [{{ name: http, port: 80 }}]
endpoints:
- {{ addresses: [10.0.1.1], targetRef: {{ kind: Pod, name: a, namespace: shop }} }}
- {{ addresses: [10.0.1.2], targetRef: {{ kind: Pod, name: b, namespace: shop }} }}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: svc, namespace: shop }}
spec:
  host: svc
  trafficPolicy:
    outlierDetection: {{ consecutive5xxErrors: 1 }}
    loadBalancer: {{ localityLbSetting: {{ failoverPriority: [kubernetes.io/hostname] }} }}
"
    );
    let mesh = testkit::mesh(&text, "").unwrap();
    let mut generator = Generator::new(mesh.snapshot());
    for (pod, ip) in [("a", "10.0.1.1"), ("b", "10.0.1.2")] {
        let proxy = Proxy::of_node(&ProxySpec::sidecar("shop", pod, ip, &[]).node()).unwrap();
        let class = generator.open(generator.class_of(&proxy));
        let set = generator.set(class, ResourceType::Endpoints);
        let found = testkit::resource_json(set.get("outbound|80||svc.shop.svc.cluster.local").unwrap());
        let groups = found["endpoints"].as_array().unwrap();
        let first = groups
            .iter()
            .find(|group| group.get("priority").is_none_or(|p| p == 0))
            .unwrap();
        assert_eq!(first["lbEndpoints"].as_array().unwrap().len(), 1, "{found}");
        assert!(first.to_string().contains(ip), "{pod}: {found}");
    }
}
