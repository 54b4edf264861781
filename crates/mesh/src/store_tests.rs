//! What one service costs the others.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

#[test]
fn a_service_that_cannot_be_derived_costs_no_other() {
    let service = |name: &str, address: &str, labels: serde_json::Value| {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "namespace": "shop", "labels": labels },
            "spec": { "clusterIP": address, "ports": [{ "name": "http", "port": 80 }] },
        });
        Event::Apply(Object::from_json(object).unwrap().unwrap())
    };
    let mut mesh = Mesh::default();
    mesh.apply([service("a", "10.0.0.1", json!({})), service("b", "10.0.0.1", json!({}))]);
    let update = mesh.apply([
        service("a", "10.0.0.2", json!({ "panics": "here" })),
        service("b", "10.0.0.2", json!({})),
    ]);
    let addresses: Vec<String> = update
        .snapshot
        .services()
        .iter()
        .map(|s| s.addresses.join(" "))
        .collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"]);
}
