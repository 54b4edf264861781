use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::graph::{Action, Graph, Object};

/// An object by words: `name owners… flags…`; an owner is `^name` (or `!name` when it blocks the owner's deletion), a flag
/// is `foreground`, `orphan` or `deleting`. The uid is the name.
fn object(text: &str) -> Object {
    let mut words = text.split(' ');
    let name = words.next().unwrap();
    let (mut owners, mut finalizers, mut deleting) = (Vec::new(), Vec::new(), None);
    for word in words {
        let (mark, owner) = word.split_at(1);
        match (mark, word) {
            ("^" | "!", _) => owners.push(json!({
                "apiVersion": "v1", "kind": "Thing", "name": owner, "uid": owner, "blockOwnerDeletion": mark == "!",
            })),
            (_, "foreground") => finalizers.push("foregroundDeletion"),
            (_, "orphan") => finalizers.push("orphan"),
            _ => deleting = Some("2026-01-01T00:00:00Z"),
        }
    }
    let meta = json!({
        "name": name, "namespace": "ns", "uid": name, "ownerReferences": owners, "finalizers": finalizers,
        "deletionTimestamp": deleting,
    });
    Object::new("v1", "Thing", &serde_json::from_value(meta).unwrap())
}

fn graph(objects: &[&str]) -> Graph {
    let mut graph = Graph::default();
    objects.iter().for_each(|text| drop(graph.apply(object(text))));
    graph
}

fn told(actions: &[Action]) -> String {
    let told = |action: &Action| match action {
        Action::LookUp(owner) => format!("look up {}", owner.name),
        Action::Delete { foreground: true } => "delete in foreground".into(),
        Action::Delete { foreground: false } => "delete".into(),
        Action::RemoveOwners(uids) => format!("remove owners {}", uids.iter().cloned().collect::<Vec<_>>().join(" ")),
        Action::RemoveFinalizer(name) => format!("remove {name}"),
        Action::Orphan(uids) => format!("orphan {}", uids.join(" ")),
    };
    actions.iter().map(told).collect::<Vec<_>>().join(", ")
}

fn check(objects: &[&str], about: &str, expected: &str) {
    assert_eq!(
        told(&graph(objects).decide(about)),
        expected,
        "{about} among {objects:?}"
    );
}

#[test]
fn owned_objects_stay_while_an_owner_is_there() {
    check(&["a"], "a", "");
    check(&["a", "b ^a"], "b", "");
    check(&["b ^a"], "b", "look up a");
}

#[test]
fn background_the_dependant_goes_after_its_last_owner() {
    let mut graph = graph(&["a", "z", "b ^a", "c ^a ^z"]);
    assert_eq!(graph.remove("a"), ["b", "c"]);
    assert_eq!(told(&graph.decide("b")), "delete");
    assert_eq!(told(&graph.decide("c")), "remove owners a");
}

#[test]
fn foreground_the_owner_waits_for_those_that_block_it() {
    let objects = ["a deleting foreground", "b !a", "c !b"];
    check(&objects, "a", "");
    check(&objects, "b", "delete in foreground");
    check(&["a deleting foreground", "b !a"], "b", "delete");
    check(&["a deleting foreground", "b ^a"], "a", "remove foregroundDeletion");
    let mut graph = graph(&["a deleting foreground", "b !a"]);
    assert_eq!(graph.remove("b"), ["a"]);
    assert_eq!(told(&graph.decide("a")), "remove foregroundDeletion");
}

#[test]
fn orphans_lose_the_reference_and_stay() {
    check(&["a deleting orphan", "b ^a"], "a", "orphan b, remove orphan");
    check(&["a deleting orphan"], "a", "remove orphan");
}

#[test]
fn an_owner_in_another_namespace_is_none() {
    let mut elsewhere = object("a");
    elsewhere.place.namespace = "other".into();
    let mut graph = graph(&["b ^a"]);
    graph.apply(elsewhere);
    assert_eq!(told(&graph.decide("b")), "delete");
}

proptest! {
    /// A chain and a fan of owners: in whatever order the watches of several kinds bring the objects, deleting the root
    /// deletes exactly what it owns, and nothing else.
    #[test]
    fn exactly_the_owned_go(order in Just(vec!["root", "d ^root", "p ^d", "q ^d", "s ^root ^other", "other", "free"]).prop_shuffle()) {
        let server: BTreeSet<&str> = order.iter().map(|text| text.split(' ').next().unwrap()).collect();
        let mut server: BTreeSet<String> = server.into_iter().map(str::to_owned).collect();
        let mut graph = Graph::default();
        let mut work: Vec<String> = order.iter().flat_map(|text| graph.apply(object(text))).collect();
        server.remove("root");
        work.extend(graph.remove("root"));
        while let Some(uid) = work.pop() {
            for action in graph.decide(&uid) {
                match action {
                    Action::LookUp(owner) => {
                        if !server.contains(&owner.uid) { graph.absent(&owner.uid); }
                        work.push(uid.clone());
                    }
                    Action::Delete { .. } => {
                        server.remove(&uid);
                        work.extend(graph.remove(&uid));
                    }
                    Action::RemoveOwners(gone) => {
                        prop_assert_eq!(&uid, "s");
                        prop_assert_eq!(gone, BTreeSet::from(["root".to_owned()]));
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        prop_assert_eq!(server.into_iter().collect::<Vec<_>>(), ["free", "other", "s"]);
    }
}
