use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::status::{Failure, check_again, status};
use super::*;

fn set(replicas: i32, min_ready: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "u", "generation": 3},
        "spec": {
            "replicas": replicas, "minReadySeconds": min_ready,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web", "v": "1"}}},
        },
    }))
    .unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Pods by words `name:state`; states: `ready`, `young` (ready since second 95), `starting`, `ending`, `ended`.
fn pods(text: &str) -> Vec<Arc<Pod>> {
    let pod = |word: &str| {
        let (name, state) = word.split_once(':').unwrap();
        let phase = match state {
            "ended" => "Failed",
            "starting" => "Pending",
            _ => "Running",
        };
        let ready = if matches!(state, "ready" | "young") {
            "True"
        } else {
            "False"
        };
        let since = if state == "young" { at(95) } else { at(0) };
        let deleted = (state == "ending").then(|| at(50).to_string());
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": "web"}, "deletionTimestamp": deleted},
            "spec": {"containers": [], "nodeName": "n"},
            "status": {"phase": phase, "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": since.to_string()},
            ]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    };
    text.split_whitespace().map(pod).collect()
}

fn check(replicas: i32, seen: &str, expected: &str) {
    let told = match decide(&set(replicas, 0), &pods(seen)) {
        Action::Create(number) => format!("create {number}"),
        Action::Delete(pods) => {
            let names: Vec<_> = pods.iter().map(|pod| meta::name(&pod.metadata)).collect();
            format!("delete {}", names.join(" "))
        }
        Action::Nothing => "nothing".into(),
    };
    assert_eq!(told, expected, "{replicas} wanted of {seen}");
}

#[test]
fn numbers() {
    check(2, "", "create 2");
    check(2, "a:ready b:starting", "nothing");
    check(2, "a:ready b:ending", "create 1");
    check(2, "a:ready b:ended", "create 1");
    check(1, "a:ready b:starting c:ready", "delete b c");
    check(0, "a:ready b:ending", "delete a");
    check(2000, "", "create 500");
}

#[test]
fn a_set_that_is_being_deleted_makes_no_pods() {
    let mut set = set(2, 0);
    set.metadata.deletion_timestamp = Some(meta::time(at(1)));
    assert_eq!(decide(&set, &[]), Action::Nothing);
}

#[test]
fn status_counts_and_waits_for_min_ready_seconds() {
    let set = set(4, 10);
    let seen = pods("a:ready b:young c:starting d:ending");
    let told = status(&set, &seen, None, at(100)).unwrap();
    assert_eq!(
        (told.replicas, told.ready_replicas, told.available_replicas),
        (3, Some(2), Some(1))
    );
    assert_eq!((told.fully_labeled_replicas, told.observed_generation), (None, Some(3)));
    assert!(check_again(&set, &seen, at(100)).is_some());
    assert!(check_again(&set, &seen, at(105)).is_none());
    let mut set = set;
    set.status = Some(told);
    assert_eq!(
        status(&set, &seen, None, at(100)),
        None,
        "nothing is written when nothing changes"
    );
}

#[test]
fn failure_is_told_once_and_taken_back() {
    let mut set = set(1, 0);
    let failure = Failure {
        reason: "FailedCreate",
        message: "denied".into(),
    };
    set.status = status(&set, &[], Some(&failure), at(10));
    assert_eq!(
        set.status.as_ref().unwrap().conditions.as_ref().unwrap()[0]
            .reason
            .as_deref(),
        Some("FailedCreate")
    );
    assert_eq!(status(&set, &[], Some(&failure), at(20)), None);
    assert_eq!(status(&set, &[], None, at(30)).unwrap().conditions, None);
}
