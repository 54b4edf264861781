//! After any change, what the generator keeps is what a new one would make, and it says whose answers differ.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use mesh::{Event, Kind, Mesh, Object};
use proptest::prelude::*;
use testkit::ProxySpec;
use translate::{ClassId, Generator, Proxy, ProxyClass, ResourceType, SharedGenerator};

const SHOP: &str = include_str!("fixtures/shop.yaml");
const CHANGES: &str = include_str!("fixtures/changes.yaml");

type Hashes = BTreeMap<(ClassId, ResourceType), String>;

fn classes(mesh: &Mesh) -> Vec<ProxyClass> {
    let class = |proxy: Proxy| proxy.class(&mesh.snapshot());
    proxies().into_iter().map(class).collect()
}

fn proxies() -> Vec<Proxy> {
    let gateway = ProxySpec {
        role: "router".to_owned(),
        ..ProxySpec::sidecar("edge", "gateway-0", "10.244.0.2", &[("istio", "ingressgateway")])
    };
    [
        ProxySpec::sidecar(
            "shop",
            "catalog-0",
            "10.244.1.10",
            &[("app", "catalog"), ("version", "v1")],
        ),
        ProxySpec::sidecar("other", "client-0", "10.244.2.1", &[("app", "client")]),
        gateway,
    ]
    .iter()
    .map(|spec| {
        let mut proxy = Proxy::of_node(&spec.node()).unwrap();
        proxy.secrets = Some(mesh::SecretReader::of_verified_namespace(&spec.namespace));
        proxy
    })
    .collect()
}

fn hashes(generator: &mut Generator, ids: &[ClassId]) -> Hashes {
    let mut hashes = Hashes::new();
    for id in ids {
        for (resource_type, set) in generator.sets(*id) {
            hashes.insert((*id, resource_type), format!("{:?}", set.hash()));
        }
    }
    hashes
}

/// Plays events one by one and holds the generator against a new one after each.
fn check(events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut mesh = testkit::mesh(SHOP, "").unwrap();
    let classes = classes(&mesh);
    let mut generator = Generator::new(mesh.snapshot());
    let ids: Vec<ClassId> = classes.iter().map(|class| generator.open(class.clone())).collect();
    let mut before = hashes(&mut generator, &ids);
    for event in events {
        let shown = format!("{event:?}");
        let update = mesh.apply([event]);
        let said = generator.update(&update);
        let after = hashes(&mut generator, &ids);
        let mut fresh = Generator::new(update.snapshot.clone());
        let fresh_ids: Vec<ClassId> = classes.iter().map(|class| fresh.open(class.clone())).collect();
        prop_assert_eq!(&after, &hashes(&mut fresh, &fresh_ids), "after {}", shown);
        let differ: Vec<_> = after
            .iter()
            .filter(|(key, hash)| before.get(*key) != Some(*hash))
            .map(|(k, _)| *k)
            .collect();
        prop_assert_eq!(said, differ, "after {}", shown);
        before = after;
    }
    Ok(())
}

fn event() -> impl Strategy<Value = Event> {
    let pool: Vec<Object> = [SHOP, CHANGES]
        .iter()
        .flat_map(|text| testkit::objects(text).unwrap())
        .collect();
    (0..pool.len(), any::<bool>()).prop_map(move |(index, delete)| {
        let object = pool[index].clone();
        if delete {
            Event::Delete(object.key())
        } else {
            Event::Apply(object)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn an_update_is_as_good_as_a_new_start(events in proptest::collection::vec(event(), 1..12)) {
        check(events)?;
    }
}

/// Classes are opened, asked for and closed by one thread while another changes the mesh: every answer is the one of some
/// moment, and in the end all are those of the last.
#[test]
fn what_is_made_beside_changes_is_what_would_be_made_alone() {
    type Answer = Vec<(ResourceType, String)>;
    let answer = |sets: BTreeMap<ResourceType, std::sync::Arc<xds::resource::ResourceSet>>| -> Answer {
        let hash = |(kind, set): (_, std::sync::Arc<xds::resource::ResourceSet>)| (kind, format!("{:?}", set.hash()));
        sets.into_iter().map(hash).collect()
    };
    let mut mesh = testkit::mesh(SHOP, "").unwrap();
    let first = mesh.snapshot();
    let changes = testkit::objects(CHANGES).unwrap();
    let applied = changes.iter().map(|object| Event::Apply(object.clone()));
    let deleted = changes.iter().map(|object| Event::Delete(object.key()));
    let updates: Vec<mesh::Update> = applied.chain(deleted).map(|event| mesh.apply([event])).collect();
    let mut snapshots = vec![first.clone()];
    snapshots.extend(updates.iter().map(|update| update.snapshot.clone()));
    let of_moments: Vec<BTreeSet<Answer>> = proxies()
        .iter()
        .map(|proxy| {
            let of_moment = |snapshot: &std::sync::Arc<mesh::Snapshot>| {
                let mut generator = Generator::new(snapshot.clone());
                let id = generator.open(proxy.class(&first));
                answer(generator.sets(id))
            };
            snapshots.iter().map(of_moment).collect()
        })
        .collect();
    let shared = SharedGenerator::new(first.clone());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            updates.iter().for_each(|update| drop(shared.update(update)));
            done.store(true, Ordering::Relaxed);
        });
        let mut rounds = 0;
        while !done.load(Ordering::Relaxed) || rounds < 2 {
            for (proxy, of_moments) in proxies().iter().zip(&of_moments) {
                let id = shared.open(proxy);
                assert!(of_moments.contains(&answer(shared.sets(id))), "an answer of no moment");
                shared.close(id);
            }
            rounds += 1;
        }
    });
    let last = mesh.snapshot();
    for proxy in proxies() {
        let mut fresh = Generator::new(last.clone());
        let id = fresh.open(proxy.class(&last));
        assert_eq!(answer(shared.sets(shared.open(&proxy))), answer(fresh.sets(id)));
    }
}

#[test]
fn an_endpoint_concerns_endpoints_only() {
    let mut mesh = testkit::mesh(SHOP, "").unwrap();
    let classes = classes(&mesh);
    let mut generator = Generator::new(mesh.snapshot());
    let ids: Vec<ClassId> = classes.into_iter().map(|class| generator.open(class)).collect();
    hashes(&mut generator, &ids);
    let (computed, _) = generator.counters();
    let slice = testkit::objects(SHOP)
        .unwrap()
        .into_iter()
        .find(|o| o.kind() == Kind::EndpointSlice)
        .unwrap();
    let Object::EndpointSlice(slice) = slice else {
        unreachable!()
    };
    let mut slice = (*slice).clone();
    slice.endpoints[0].ready = Some(false);
    let update = mesh.apply([Event::Apply(Object::EndpointSlice(slice.into()))]);
    let said: Vec<ResourceType> = generator.update(&update).into_iter().map(|(_, t)| t).collect();
    assert_eq!(said, [ResourceType::Endpoints; 3]);
    // Per client: the service's endpoints, the set of all services, the class.
    assert!(
        generator.counters().0 - computed <= 9,
        "{} computations",
        generator.counters().0 - computed
    );
}

#[test]
fn a_class_reads_only_secrets_that_it_may() {
    let mesh = testkit::mesh(SHOP, "").unwrap();
    let mut generator = Generator::new(mesh.snapshot());
    for class in classes(&mesh) {
        let own = class.namespace.clone();
        let id = generator.open(class);
        generator.sets(id);
        for resource_type in ResourceType::ALL {
            for input in generator.inputs(id, resource_type) {
                if let mesh::Input::Secret(namespace, _) = input {
                    assert_eq!((namespace, resource_type), (own.clone(), ResourceType::Secret));
                }
            }
        }
    }
}

#[test]
fn what_nobody_asks_for_is_forgotten() {
    let mesh = testkit::mesh(SHOP, "").unwrap();
    let mut generator = Generator::new(mesh.snapshot());
    let ids: Vec<ClassId> = classes(&mesh).into_iter().map(|class| generator.open(class)).collect();
    hashes(&mut generator, &ids);
    assert!(generator.counters().1 > 10);
    for id in ids {
        generator.close(id);
    }
    assert_eq!(generator.counters().1, 0);
}
