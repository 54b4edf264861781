//! Proxies of the mesh in `fixtures/shop.yaml`.

use testkit::ProxySpec;
use translate::Proxy;

/// The sidecar of a pod of the catalogue.
pub fn catalog() -> ProxySpec {
    ProxySpec::sidecar(
        "shop",
        "catalog-0",
        "10.244.1.10",
        &[("app", "catalog"), ("version", "v1")],
    )
}

/// The gateway at the edge.
pub fn gateway() -> ProxySpec {
    ProxySpec {
        role: "router".to_owned(),
        ..ProxySpec::sidecar("edge", "gateway-0", "10.244.0.2", &[("istio", "ingressgateway")])
    }
}

/// One that has proved to be of its namespace.
pub fn proved(spec: &ProxySpec) -> Proxy {
    let mut proxy = Proxy::of_node(&spec.node()).unwrap();
    proxy.secrets = Some(mesh::SecretReader::of_verified_namespace(&spec.namespace));
    proxy
}
