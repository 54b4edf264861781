//! What one change of endpoints costs the mesh, by number of services and of namespaces that they are spread over, while
//! somebody still reads the snapshot before.
#![allow(clippy::unwrap_used)]

use divan::Bencher;
use mesh::{Event, Mesh, Object, Snapshot};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

fn object(value: Value) -> Event {
    Event::Apply(Object::from_json(value).unwrap().unwrap())
}

fn slice(service: usize, namespaces: usize, ready: bool) -> Event {
    let (name, namespace) = (format!("svc-{service}"), format!("ns-{}", service % namespaces));
    let address = format!("10.{}.{}.{}", service / 62_500, service / 250 % 250, service % 250 + 1);
    object(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{name}-a"), "namespace": namespace, "labels": { "kubernetes.io/service-name": name },
        },
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": [
            { "addresses": [address], "conditions": { "ready": true } },
            { "addresses": ["10.9.9.9"], "conditions": { "ready": ready } },
        ],
    }))
}

fn service(service: usize, namespaces: usize) -> Event {
    let address = format!("11.{}.{}.{}", service / 62_500, service / 250 % 250, service % 250 + 1);
    object(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": format!("svc-{service}"), "namespace": format!("ns-{}", service % namespaces) },
        "spec": { "clusterIP": address, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
    }))
}

/// Services, and namespaces that they are spread over.
const SHAPES: [(usize, usize); 4] = [(1000, 50), (1000, 1), (10_000, 300), (10_000, 1)];

#[divan::bench(args = SHAPES)]
fn endpoints_of_one_service(bencher: Bencher<'_, '_>, (services, namespaces): (usize, usize)) {
    let mut mesh = Mesh::default();
    mesh.apply((0..services).map(|number| service(number, namespaces)));
    mesh.apply((0..services).map(|number| slice(number, namespaces, true)));
    let changes = [false, true].map(|ready| slice(services / 2, namespaces, ready));
    let mut before: std::sync::Arc<Snapshot> = mesh.snapshot();
    let mut turns = changes.iter().cycle();
    bencher.bench_local(|| {
        let update = mesh.apply(turns.next().cloned());
        assert_eq!(update.changed.len(), 1);
        std::mem::replace(&mut before, update.snapshot)
    });
}
