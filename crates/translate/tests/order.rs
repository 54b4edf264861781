//! What proxies are sent is a function of the objects, not of the order in which they came.
#![allow(clippy::unwrap_used)]

mod shop;

use std::collections::{BTreeMap, BTreeSet};

use mesh::{Event, Mesh, Object};
use proptest::prelude::*;
use testkit::ProxySpec;
use translate::{Generator, ResourceType};

/// One form of every object.
fn pool() -> Vec<Object> {
    let texts = [include_str!("fixtures/shop.yaml"), include_str!("fixtures/more.yaml")];
    let objects = texts.iter().flat_map(|text| testkit::objects(text).unwrap());
    let mut known = BTreeSet::new();
    objects.filter(|object| known.insert(object.key())).collect()
}

/// Names and hashes of everything that a sidecar and a gateway are sent.
fn sent(mesh: &Mesh) -> BTreeMap<(String, ResourceType), Vec<String>> {
    let catalog = ProxySpec {
        locality: "r1/z1".to_owned(),
        metadata: BTreeMap::from([("DNS_CAPTURE".to_owned(), "true".into())]),
        ..shop::catalog()
    };
    let mut generator = Generator::new(mesh.snapshot());
    let mut all = BTreeMap::new();
    for spec in [catalog, shop::gateway()] {
        let id = generator.open(generator.class_of(&shop::proved(&spec)));
        for (resource_type, set) in generator.sets(id) {
            let resources = set.iter().map(|r| format!("{} {}", r.name, r.hash)).collect();
            all.insert((spec.id.clone(), resource_type), resources);
        }
    }
    assert_eq!(generator.stuck(), [""; 0]);
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_gives_the_same_bytes(
        order in Just(pool()).prop_shuffle(),
        gone_between in prop::collection::btree_set(0..40_usize, 0..20),
        batch in 1_usize..6,
    ) {
        let mut expected = Mesh::default();
        expected.apply(pool().into_iter().map(Event::Apply));
        let mut events = Vec::new();
        for (at, object) in order.into_iter().enumerate() {
            if gone_between.contains(&at) {
                events.extend([Event::Apply(object.clone()), Event::Delete(object.key())]);
            }
            events.push(Event::Apply(object));
        }
        let mut mesh = Mesh::default();
        for batch in events.chunks(batch) {
            mesh.apply(batch.to_vec());
        }
        prop_assert_eq!(sent(&mesh), sent(&expected));
    }
}

#[test]
fn every_type_is_compared() {
    let mut mesh = Mesh::default();
    mesh.apply(pool().into_iter().map(Event::Apply));
    let types: BTreeSet<ResourceType> = sent(&mesh)
        .into_iter()
        .filter(|(_, resources)| !resources.is_empty())
        .map(|((_, resource_type), _)| resource_type)
        .collect();
    assert_eq!(types, BTreeSet::from(ResourceType::ALL));
}
