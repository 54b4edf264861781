//! The snapshot is a function of the objects, not of the order in which they came.
#![allow(clippy::unwrap_used)]

use mesh::{Event, Key, Kind, Mesh, Object, SecretReader, Snapshot};
use proptest::prelude::*;

const OBJECTS: &str = include_str!("fixtures/pool.yaml");

fn pool() -> Vec<Object> {
    testkit::objects(OBJECTS).unwrap()
}

/// The whole snapshot as text, secrets included.
fn shown(snapshot: &Snapshot) -> String {
    let reader = SecretReader::of_verified_namespace("shop");
    format!("{snapshot:#?}\n{:?}", snapshot.secret(&reader, "shop", "cert"))
}

/// An object of the pool comes, comes twice, comes and goes and comes again, or comes in another form first.
#[derive(Clone, Debug)]
enum Way {
    Straight,
    Twice,
    GoneBetween,
    OtherFormFirst,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::Straight),
        Just(Way::Twice),
        Just(Way::GoneBetween),
        Just(Way::OtherFormFirst)
    ]
}

fn order() -> impl Strategy<Value = Vec<usize>> {
    Just((0..pool().len()).collect::<Vec<_>>()).prop_shuffle()
}

fn in_other_form(object: &Object) -> Option<Object> {
    Some(match object {
        Object::Pod(pod) => {
            let mut pod = (**pod).clone();
            pod.meta.labels.clear();
            Object::Pod(pod.into())
        }
        Object::EndpointSlice(slice) => {
            let mut slice = (**slice).clone();
            slice.endpoints.clear();
            Object::EndpointSlice(slice.into())
        }
        Object::ServiceEntry(entry) => {
            let mut entry = (**entry).clone();
            entry.spec.hosts = vec!["elsewhere.example.com".to_owned()];
            Object::ServiceEntry(entry.into())
        }
        _ => return None,
    })
}

proptest! {
    #[test]
    fn any_order_gives_the_same_snapshot(
        order in order(),
        ways in proptest::collection::vec(way(), 32),
        batch in 1_usize..6,
    ) {
        let objects = pool();
        let expected = Mesh::default().apply(objects.iter().cloned().map(Event::Apply)).snapshot;
        let mut events = Vec::new();
        for index in order {
            let object = &objects[index];
            match ways[index % ways.len()] {
                Way::Straight => {}
                Way::Twice => events.push(Event::Apply(object.clone())),
                Way::GoneBetween => {
                    events.push(Event::Apply(object.clone()));
                    events.push(Event::Delete(object.key()));
                }
                Way::OtherFormFirst => events.extend(in_other_form(object).map(Event::Apply)),
            }
            events.push(Event::Apply(object.clone()));
        }
        let mut mesh = Mesh::default();
        for batch in events.chunks(batch) {
            mesh.apply(batch.to_vec());
        }
        prop_assert_eq!(shown(&mesh.snapshot()), shown(&expected));
    }

    #[test]
    fn what_is_deleted_leaves_nothing(order in order()) {
        let objects = pool();
        let mut mesh = Mesh::default();
        mesh.apply(objects.iter().cloned().map(Event::Apply));
        for index in order {
            mesh.apply([Event::Delete(objects[index].key())]);
        }
        prop_assert_eq!(shown(&mesh.snapshot()), shown(&Mesh::default().snapshot()));
    }
}

#[test]
fn nothing_changes_when_the_same_comes_again() {
    let mut mesh = Mesh::default();
    mesh.apply(pool().into_iter().map(Event::Apply));
    let again = mesh.apply(pool().into_iter().map(Event::Apply));
    assert!(again.changed.is_empty(), "{:?}", again.changed);
    let absent = mesh.apply([Event::Delete(Key::new(Kind::Pod, "shop", "never-there"))]);
    assert!(absent.changed.is_empty(), "{:?}", absent.changed);
}

#[test]
fn an_endpoint_changes_the_endpoints_and_nothing_else() {
    let mut mesh = Mesh::default();
    mesh.apply(testkit::events(OBJECTS).unwrap());
    let Some(Object::EndpointSlice(slice)) = pool().into_iter().find(|o| o.kind() == Kind::EndpointSlice) else {
        panic!("the pool has a slice")
    };
    let mut slice = (*slice).clone();
    slice.endpoints[0].ready = Some(false);
    let update = mesh.apply([Event::Apply(Object::EndpointSlice(slice.into()))]);
    let changed: Vec<String> = update.changed.iter().map(|i| format!("{i:?}")).collect();
    assert_eq!(
        changed,
        [r#"Endpoints(ServiceKey { host: "catalog.shop.svc.cluster.local", namespace: "shop" })"#]
    );
}

/// Whether an address is an endpoint of a headless service is known without looking at all of them.
#[test]
fn endpoints_of_headless_services_are_known_by_address() {
    let service = |name: &str, address: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: shop }}\n\
             spec: {{ clusterIP: {address}, ports: [{{ name: tcp, port: 80 }}] }}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{ name: {name}-x, namespace: shop, labels: {{ kubernetes.io/service-name: {name} }} }}\n\
             addressType: IPv4\nports: [{{ name: tcp, port: 80 }}]\nendpoints: [{{ addresses: [10.0.0.1] }}]\n"
        )
    };
    let mut mesh = Mesh::default();
    let mut check = |change: Vec<Event>, expected: bool| {
        let snapshot = mesh.apply(change).snapshot;
        assert_eq!(snapshot.is_headless_endpoint("10.0.0.1".parse().unwrap()), expected);
    };
    let apply = |name: &str, address: &str| testkit::events(&service(name, address)).unwrap();
    let delete = |kind: Kind, name: &str| vec![Event::Delete(Key::new(kind, "shop", name))];
    check(apply("a", "10.9.0.1"), false);
    check(apply("b", "None"), true);
    check(apply("c", "None"), true);
    check(delete(Kind::Service, "b"), true);
    check(apply("c", "10.9.0.2"), false);
    check(apply("c", "None"), true);
    check(delete(Kind::EndpointSlice, "c-x"), false);
    check(apply("b", "None"), true);
}

#[test]
fn a_secret_is_for_its_own_namespace() {
    let mut mesh = Mesh::default();
    mesh.apply(testkit::events(OBJECTS).unwrap());
    let snapshot = mesh.snapshot();
    assert!(
        snapshot
            .secret(&SecretReader::of_verified_namespace("shop"), "shop", "cert")
            .is_some()
    );
    assert!(
        snapshot
            .secret(&SecretReader::of_verified_namespace("other"), "shop", "cert")
            .is_none()
    );
    assert!(!format!("{snapshot:?}").contains("very-private"));
}
