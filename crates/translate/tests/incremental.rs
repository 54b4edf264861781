//! After any change, what the generator keeps is what a new one would make, and it says whose answers differ.
#![allow(clippy::unwrap_used)]

mod shop;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use mesh::{Event, Kind, Mesh, Object};
use proptest::prelude::*;
use testkit::ProxySpec;
use translate::{ClassId, Generator, Proxy, ProxyClass, Reclassified, ResourceType, SharedGenerator};

const SHOP: &str = include_str!("fixtures/shop.yaml");
const CHANGES: &str = include_str!("fixtures/changes.yaml");
const MORE: &str = include_str!("fixtures/more.yaml");

/// Mesh configurations, each a document.
const MESHES: &str = r#"
extensionProviders:
- { name: zipkin, zipkin: { service: zipkin.istio-system.svc.cluster.local, port: 9411 } }
- { name: collector, envoyOtelAls: { service: zipkin.istio-system.svc.cluster.local, port: 4317 } }
- { name: judge, envoyExtAuthzHttp: { service: catalog.shop.svc.cluster.local, port: 80 } }
---
accessLogFile: /dev/stdout
outboundTrafficPolicy: { mode: REGISTRY_ONLY }
trustDomain: example.org
---
rootNamespace: other
enableAutoMtls: false
defaultServiceExportTo: ["."]
---
defaultVirtualServiceExportTo: ["."]
defaultDestinationRuleExportTo: ["."]
localityLbSetting: { failoverPriority: [topology.kubernetes.io/region] }
defaultConfig: { proxyHeaders: { server: { disabled: true } }, tracing: { sampling: 10 } }
---
{}
"#;

type Hashes = BTreeMap<(ClassId, ResourceType), String>;

fn classes(mesh: &Mesh) -> Vec<ProxyClass> {
    classes_of(&proxies(), mesh)
}

fn classes_of(proxies: &[Proxy], mesh: &Mesh) -> Vec<ProxyClass> {
    let snapshot = mesh.snapshot();
    proxies.iter().map(|proxy| proxy.class(&snapshot)).collect()
}

fn proxies() -> Vec<Proxy> {
    let client = ProxySpec::sidecar("other", "client-0", "10.244.2.1", &[("app", "client")]);
    [shop::catalog(), client, shop::gateway()]
        .iter()
        .map(shop::proved)
        .collect()
}

/// Proxies that read more of the mesh: agents that resolve names, places, a machine, Envoy with Istio's extensions.
fn curious() -> Vec<Proxy> {
    let metadata = |all: &[(&str, &str)]| {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).into());
        all.iter().map(pair).collect()
    };
    let resolver = ProxySpec {
        locality: "r1/z1/s".to_owned(),
        metadata: metadata(&[("DNS_CAPTURE", "true"), ("COLOUR", "red")]),
        istio_version: Some("1.24.0".to_owned()),
        ..ProxySpec::sidecar(
            "shop",
            "catalog-1",
            "10.244.1.77",
            &[("app", "catalog"), ("version", "v2")],
        )
    };
    let machine = ProxySpec {
        network: Some("net-2".to_owned()),
        ..ProxySpec::sidecar("shop", "machine", "10.1.1.1", &[("app", "machines")])
    };
    let system = ProxySpec {
        role: "router".to_owned(),
        metadata: metadata(&[("COLOUR", "red")]),
        ..ProxySpec::sidecar("istio-system", "gateway-1", "fd00::1", &[("istio", "ingressgateway")])
    };
    [resolver, machine, system].iter().map(shop::proved).collect()
}

fn hashes(generator: &mut Generator, ids: &[ClassId]) -> Hashes {
    let mut hashes = Hashes::new();
    for id in ids {
        for (resource_type, set) in generator.sets(*id) {
            hashes.insert((*id, resource_type), format!("{:?}", set.hash()));
        }
    }
    assert_eq!(generator.stuck(), [""; 0]);
    hashes
}

/// What a class is owed, so that a difference can be read.
fn owed(generator: &mut Generator, id: ClassId) -> BTreeMap<ResourceType, BTreeMap<String, String>> {
    let names = |set: std::sync::Arc<xds::resource::ResourceSet>| {
        set.iter().map(|r| (r.name.to_string(), r.hash.to_string())).collect()
    };
    let sets = generator.sets(id).into_iter();
    sets.map(|(resource_type, set)| (resource_type, names(set))).collect()
}

/// A class is owed the same by two generators.
fn check_owed(
    (generator, id): (&mut Generator, ClassId),
    (other, alone): (&mut Generator, ClassId),
    context: impl std::fmt::Display,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(owed(generator, id), owed(other, alone), "{}", context);
    Ok(())
}

/// Plays events one by one. After each, the generator says exactly whose answers differ, its answers are those of a new
/// one, and who is not said to be concerned is in the class that he was in.
fn check(events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut mesh = testkit::mesh(SHOP, "").unwrap();
    let proxies: Vec<Proxy> = proxies().into_iter().chain(curious()).collect();
    let mut generator = Generator::new(mesh.snapshot());
    let class = |generator: &mut Generator, proxy: &Proxy| generator.open(generator.class_of(proxy));
    let mut ids: Vec<ClassId> = proxies.iter().map(|proxy| class(&mut generator, proxy)).collect();
    let mut before = hashes(&mut generator, &ids);
    for event in events {
        let shown = format!("{event:?}");
        let update = mesh.apply([event]);
        let said = generator.update(&update);
        let after = hashes(&mut generator, &ids);
        let differ: Vec<_> = after
            .iter()
            .filter(|(key, hash)| before.get(*key) != Some(*hash))
            .map(|(k, _)| *k)
            .collect();
        prop_assert_eq!(said, differ, "after {}", shown);

        let concerned = Reclassified::by(&update);
        let mut fresh = Generator::new(update.snapshot.clone());
        for (proxy, id) in proxies.iter().zip(&mut ids) {
            let context = format!("{} after {shown}", proxy.id);
            let old = generator.class(*id).cloned();
            let alone = fresh.open(old.as_ref().map(|class| ProxyClass::clone(class)).unwrap());
            check_owed((&mut generator, *id), (&mut fresh, alone), &context)?;
            let now = proxy.class(&update.snapshot);
            prop_assert!(
                concerned.concerns(proxy) || old.as_deref() == Some(&now),
                "{} is in another class after {}",
                proxy.id,
                shown
            );
            prop_assert_eq!(&generator.class_of(proxy), &now);
            let now = generator.open(now);
            generator.close(std::mem::replace(id, now));
            let alone = fresh.open(proxy.class(&update.snapshot));
            check_owed((&mut generator, *id), (&mut fresh, alone), &context)?;
        }
        before = hashes(&mut generator, &ids);
    }
    Ok(())
}

fn event() -> impl Strategy<Value = Event> {
    let mut pool: Vec<Event> = Vec::new();
    for object in [SHOP, CHANGES, MORE]
        .iter()
        .flat_map(|text| testkit::objects(text).unwrap())
    {
        pool.push(Event::Delete(object.key()));
        // What comes is more telling than what goes.
        pool.extend([Event::Apply(object.clone()), Event::Apply(object)]);
    }
    for document in testkit::documents(MESHES).unwrap() {
        let config = api::mesh_config::MeshConfig::from_json(document).unwrap();
        pool.extend(std::iter::repeat_n(Event::MeshConfig(config.into()), 3));
    }
    prop::sample::select(pool)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_update_is_as_good_as_a_new_start(events in prop::collection::vec(event(), 1..16)) {
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

/// Objects of the fixtures that no proxy reads: for all others the property above says something.
#[test]
fn nearly_every_object_matters_to_somebody() {
    let mut objects: Vec<Object> = [SHOP, CHANGES, MORE]
        .iter()
        .flat_map(|text| testkit::objects(text).unwrap())
        .collect();
    // Of several forms the first is there.
    objects.reverse();
    let first = testkit::documents(MESHES).unwrap().remove(0);
    let first = api::mesh_config::MeshConfig::from_json(first).unwrap();
    let mut mesh = Mesh::default();
    mesh.apply([Event::MeshConfig(first.into())]);
    mesh.apply(objects.iter().cloned().map(Event::Apply));
    let proxies: Vec<Proxy> = proxies().into_iter().chain(curious()).collect();
    let mut generator = Generator::new(mesh.snapshot());
    for proxy in &proxies {
        let id = generator.open(proxy.class(&mesh.snapshot()));
        generator.sets(id);
    }
    let mut unread = Vec::new();
    let mut again: Vec<Event> = Vec::new();
    for object in &objects {
        again.push(Event::Apply(object.clone()));
        generator.update(&mesh.apply(std::mem::take(&mut again)));
        let before = classes_of(&proxies, &mesh);
        let said = generator.update(&mesh.apply([Event::Delete(object.key())]));
        if said.is_empty() && classes_of(&proxies, &mesh) == before {
            unread.push(object.key().to_string());
        }
        let forms = objects.iter().filter(|other| other.key() == object.key());
        again.extend(forms.cloned().map(Event::Apply));
    }
    // The pod says what its proxy says anyway; labels of a namespace and ProxyConfigs are for injection.
    assert_eq!(
        unread,
        ["ProxyConfig shop/shop", "Namespace /shop", "Pod edge/gateway-0"]
    );
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
