use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn set(spec: Value) -> StatefulSet {
    serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "ns", "uid": "s"}, "spec": spec})).unwrap()
}

/// A pod by a word `ordinal:revision[:state]`; states `starting`, `ending`, `ended`; none is ready.
fn pod(word: &str) -> Arc<Pod> {
    let mut parts = word.split(':');
    let (ordinal, revision) = (parts.next().unwrap(), parts.next().unwrap());
    let state = parts.next().unwrap_or_default();
    let ready = if state.is_empty() { "True" } else { "False" };
    let phase = if state == "ended" { "Failed" } else { "Running" };
    let pod = json!({
        "metadata": {
            "name": format!("db-{ordinal}"), "labels": {"controller-revision-hash": revision},
            "deletionTimestamp": (state == "ending").then_some("2026-01-01T00:00:00Z"),
        },
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn seen<'a>(set: &'a StatefulSet, owned: &'a [Arc<Pod>]) -> Seen<'a> {
    Seen {
        set,
        owned,
        update: "new",
        current: "old",
        now: Timestamp::UNIX_EPOCH,
    }
}

fn told(actions: &[Action]) -> String {
    let told = |action: &Action| match action {
        Action::Create { ordinal, revision } => format!("create {ordinal} {revision}"),
        Action::Delete(pod) => format!("delete {}", meta::name(&pod.metadata)),
    };
    actions.iter().map(told).collect::<Vec<_>>().join(", ")
}

fn check(spec: Value, pods: &str, expected: &str) {
    let set = set(spec.clone());
    let owned: Vec<_> = pods.split_whitespace().map(pod).collect();
    assert_eq!(told(&decide(&seen(&set, &owned))), expected, "{spec} with {pods}");
}

#[test]
fn pods_come_one_after_another() {
    check(json!({"replicas": 3}), "", "create 0 new");
    check(json!({"replicas": 3}), "0:new:starting", "");
    check(json!({"replicas": 3}), "0:new", "create 1 new");
    check(json!({"replicas": 3}), "0:new:ended", "delete db-0");
    check(
        json!({"replicas": 3, "podManagementPolicy": "Parallel"}),
        "1:new:starting",
        "create 0 new, create 2 new",
    );
    check(json!({"replicas": 1, "ordinals": {"start": 5}}), "", "create 5 new");
}

#[test]
fn surplus_goes_from_the_top() {
    check(json!({"replicas": 1}), "0:new 1:new 2:new", "delete db-2");
    check(json!({"replicas": 1}), "0:new 1:new 2:new:ending", "");
}

#[test]
fn update_goes_from_the_top_and_waits_for_health() {
    check(json!({"replicas": 3}), "0:old 1:old 2:old", "delete db-2");
    check(json!({"replicas": 3}), "0:old 1:old 2:old:ending", "");
    check(json!({"replicas": 3}), "0:old 1:old", "create 2 new");
    check(json!({"replicas": 3}), "0:old 1:old 2:new:starting", "");
    check(json!({"replicas": 3}), "0:old 1:old 2:new", "delete db-1");
    let partition = json!({"rollingUpdate": {"partition": 2}});
    check(
        json!({"replicas": 3, "updateStrategy": partition}),
        "0:old 1:old 2:new",
        "",
    );
    check(
        json!({"replicas": 3, "updateStrategy": partition}),
        "0:old 2:new",
        "create 1 old",
    );
    check(
        json!({"replicas": 2, "updateStrategy": {"type": "OnDelete"}}),
        "0:old 1:old",
        "",
    );
}

proptest! {
    /// Whatever pods fail, end or are deleted meanwhile, never more than one pod is made or taken at a time, and in the
    /// end all are of the new revision.
    #[test]
    fn converges(replicas in 0i32..5, start in prop::collection::vec(0u8..4, 0..6), faults in prop::collection::vec(0usize..12, 0..30)) {
        let set = set(json!({"replicas": replicas}));
        let states = ["", ":starting", ":ending", ":ended"];
        let mut pods: Vec<String> =
            start.iter().enumerate().map(|(n, state)| format!("{n}:old{}", states[usize::from(*state)])).collect();
        let mut faults = faults.into_iter();
        for _ in 0..300 {
            let owned: Vec<_> = pods.iter().map(|word| pod(word)).collect();
            let actions = decide(&seen(&set, &owned));
            prop_assert!(actions.len() <= 1);
            for action in &actions {
                match action {
                    Action::Create { ordinal, revision } => pods.push(format!("{ordinal}:{revision}:starting")),
                    Action::Delete(gone) => {
                        let name = meta::name(&gone.metadata).trim_start_matches("db-").to_owned();
                        pods.retain(|word| word.split(':').next() != Some(&name));
                    }
                }
            }
            // A fault, or else every pod moves on.
            match faults.next() {
                Some(n) if n < pods.len() => pods[n] = pods[n].split(':').take(2).collect::<Vec<_>>().join(":") + ":ended",
                _ => {
                    pods.retain(|word| !word.ends_with(":ending"));
                    pods.iter_mut().for_each(|word| *word = word.trim_end_matches(":starting").to_owned());
                }
            }
        }
        pods.sort();
        let expected: Vec<_> = (0..replicas).map(|n| format!("{n}:new")).collect();
        prop_assert_eq!(pods, expected);
    }
}
