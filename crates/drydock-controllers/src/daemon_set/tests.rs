use serde_json::{Value, json};

use super::*;

fn set(template: Value, strategy: Value) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "agent", "namespace": "ns", "uid": "s", "generation": 1},
        "spec": {"template": {"spec": template}, "updateStrategy": strategy, "selector": {"matchLabels": {"app": "a"}}},
    }))
    .unwrap()
}

fn node(name: &str, spec: Value) -> Arc<Node> {
    let node = json!({"metadata": {"name": name, "labels": {"os": "linux"}}, "spec": spec});
    Arc::new(serde_json::from_value(node).unwrap())
}

/// A pod by a word `node:revision[:state]`; states `starting`, `ending`, `ended`; none is ready.
fn pod(word: &str) -> Arc<Pod> {
    let mut parts = word.split(':');
    let (node, revision) = (parts.next().unwrap(), parts.next().unwrap());
    let state = parts.next().unwrap_or_default();
    let pod = json!({
        "metadata": {
            "name": format!("agent-{node}-{revision}"), "labels": {"controller-revision-hash": revision},
            "deletionTimestamp": (state == "ending").then_some("2026-01-01T00:00:00Z"),
        },
        "spec": {"containers": [], "nodeName": node},
        "status": {
            "phase": if state == "ended" { "Failed" } else { "Running" },
            "conditions": [{"type": "Ready", "status": if state.is_empty() { "True" } else { "False" }}],
        },
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn check(set: &DaemonSet, nodes: &[Arc<Node>], pods: &str, expected: &str) {
    let owned: Vec<_> = pods.split_whitespace().map(pod).collect();
    let seen = Seen {
        set,
        owned: &owned,
        nodes,
        update: "new",
        now: Timestamp::UNIX_EPOCH,
    };
    let told = |action: &Action| match action {
        Action::Create(node) => format!("create on {node}"),
        Action::Delete(pod) => format!("delete {}", meta::name(&pod.metadata)),
    };
    let told: Vec<_> = decide(&seen).iter().map(told).collect();
    assert_eq!(told.join(", "), expected, "{pods}");
}

#[test]
fn one_pod_on_each_fitting_node() {
    let any = set(json!({"containers": []}), json!({}));
    let nodes = [node("a", json!({})), node("b", json!({"unschedulable": true}))];
    check(&any, &nodes, "", "create on a, create on b");
    check(&any, &nodes, "a:new b:new:starting", "");
    check(&any, &nodes, "a:new:ended b:new", "delete agent-a-new");
    check(&any, &nodes, "a:new:ending b:new", "");
    check(&any, &nodes, "a:new b:new c:new", "delete agent-c-new");
    let tainted = [node("a", json!({"taints": [{"key": "gpu", "effect": "NoSchedule"}]}))];
    check(&any, &tainted, "", "");
    let elsewhere = set(json!({"containers": [], "nodeSelector": {"os": "plan9"}}), json!({}));
    check(&elsewhere, &nodes, "a:new", "delete agent-a-new");
}

#[test]
fn update_takes_one_node_at_a_time() {
    let rolling = set(json!({"containers": []}), json!({}));
    let nodes = [node("a", json!({})), node("b", json!({}))];
    check(&rolling, &nodes, "a:old b:old", "delete agent-a-old");
    check(&rolling, &nodes, "a:new:starting b:old", "");
    check(&rolling, &nodes, "a:old:starting b:old", "delete agent-a-old");
    let by_hand = set(json!({"containers": []}), json!({"type": "OnDelete"}));
    check(&by_hand, &nodes, "a:old b:old", "");
}

#[test]
fn status_counts_nodes() {
    let set = set(json!({"containers": []}), json!({}));
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let owned = [pod("a:new"), pod("b:old:starting")];
    let status = status(&Seen {
        set: &set,
        owned: &owned,
        nodes: &nodes,
        update: "new",
        now: Timestamp::UNIX_EPOCH,
    });
    let status = status.unwrap();
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_ready
        ),
        (2, 2, 1)
    );
    assert_eq!(
        (status.number_unavailable, status.updated_number_scheduled),
        (Some(1), Some(1))
    );
}

#[test]
fn pods_are_meant_for_their_node() {
    let set = set(json!({"containers": []}), json!({}));
    let made = pod::make(&set, "a", "new");
    assert_eq!(pod::node_of(&made), Some("a"));
    assert_eq!(
        made.metadata
            .labels
            .unwrap()
            .get("pod-template-generation")
            .map(String::as_str),
        Some("1")
    );
}
