//! The engine over a translation that only counts.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::followers::tests::{Counting, told, until};

fn service(name: &str) -> Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "a" },
        "spec": { "clusterIP": "10.0.0.1", "ports": [{ "name": "http", "port": 80 }] },
    })
}

#[test]
fn the_end_is_for_good() {
    let engine = Engine::new(Mesh::default(), Counting::default());
    let (messages, inbox) = mpsc::channel(4);
    engine.run(inbox, "default".to_owned(), 1, Duration::ZERO).unwrap();
    messages.blocking_send(Message::Change(Change::Synced)).unwrap();
    until(|| engine.is_ready());
    let view = engine.follow(1);
    until(|| view.borrow().is_some());
    engine.close();
    assert!(view.has_changed().is_err());
    // What comes later changes the mesh and nothing else.
    messages
        .blocking_send(Message::Change(Change::Apply(service("x"))))
        .unwrap();
    until(|| engine.counters.batches.load(Relaxed) == 2);
    assert_eq!(engine.snapshot().services().len(), 1);
    assert!(!engine.is_ready());
    assert!(engine.follow(1).has_changed().is_err());
}

#[test]
fn a_change_that_panics_reaches_everybody_all_the_same() {
    let counting = Counting::default();
    counting.mistakes.store(1, Relaxed);
    let engine = Engine::new(Mesh::default(), counting);
    let (messages, inbox) = mpsc::channel(4);
    let view = engine.follow(1);
    engine.run(inbox, "default".to_owned(), 1, Duration::ZERO).unwrap();
    until(|| view.borrow().is_some());
    messages
        .blocking_send(Message::Change(Change::Apply(service("x"))))
        .unwrap();
    until(|| engine.snapshot().services().len() == 1);
    until(|| told(&view) == "1");
    messages.blocking_send(Message::Change(Change::Synced)).unwrap();
    until(|| engine.is_ready());
    engine.close();
}

#[test]
fn nobody_is_served_a_mesh_of_which_a_part_is_missing() {
    let counting = Counting::default();
    counting.mistakes.store(2, Relaxed);
    let engine = Engine::new(Mesh::default(), counting);
    let (messages, inbox) = mpsc::channel(4);
    engine.run(inbox, "default".to_owned(), 1, Duration::ZERO).unwrap();
    for change in [Change::Apply(service("x")), Change::Synced] {
        messages.blocking_send(Message::Change(change)).unwrap();
    }
    drop(messages);
    until(|| Arc::strong_count(&engine) == 2);
    assert!(!engine.is_ready());
    engine.close();
}

/// A process that starts after a Gateway went to another revision knows it from the one before.
#[test]
fn what_stayed_here_stays_after_a_restart() {
    let gateway = |name: &str, revision: &str| {
        serde_json::json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": { "name": name, "namespace": "a", "labels": { "istio.io/rev": revision } }, "spec": {},
        })
    };
    let tell = |engine: &Engine<Counting>, object: Value| {
        let event = engine.read(object, "old");
        engine.take(event.into_iter().collect(), SystemTime::now());
        let names: Vec<String> = engine
            .snapshot()
            .gateways
            .iter()
            .map(|g| g.meta.name.to_string())
            .collect();
        names.join(" ")
    };
    let before = Engine::new(Mesh::default(), Counting::default());
    assert_eq!(tell(&before, gateway("g", "old")), "g");
    assert_eq!(tell(&before, gateway("g", "new")), "g");
    assert_eq!(tell(&before, gateway("h", "new")), "g");
    let known = before.kept.subscribe().borrow().clone();

    let after = Engine::new(Mesh::default(), Counting::default());
    after.kept.recall(known);
    assert_eq!(tell(&after, gateway("h", "new")), "", "never ours");
    assert_eq!(tell(&after, gateway("g", "new")), "g");
    assert_eq!(after.kept.subscribe().borrow().len(), 1);
    // What is ours again, or gone, need not be remembered.
    assert_eq!(tell(&after, gateway("g", "old")), "g");
    assert!(after.kept.subscribe().borrow().is_empty());

    let gone = Engine::new(Mesh::default(), Counting::default());
    gone.kept.recall(["Gateway a/g".to_owned()].into());
    gone.kept.forget_absent(&gone.snapshot());
    assert!(gone.kept.subscribe().borrow().is_empty(), "deleted while nobody looked");
}

#[test]
fn configuration_of_other_revisions_counts_as_absent() {
    let engine = Engine::new(Mesh::default(), Counting::default());
    let object = |revision: &str| {
        serde_json::json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": { "name": "g", "namespace": "a", "labels": { "istio.io/rev": revision } }, "spec": {},
        })
    };
    assert!(matches!(engine.read(object("canary"), "canary"), Some(Event::Apply(_))));
    assert!(matches!(engine.read(object("other"), "canary"), Some(Event::Delete(_))));
}
