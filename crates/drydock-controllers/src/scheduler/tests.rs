use serde_json::{Value, json};

use super::*;

fn node(spec: Value, ready: &str) -> Arc<Node> {
    let node = json!({
        "metadata": {"name": "one", "labels": {"kubernetes.io/os": "linux", "size": "3"}},
        "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    });
    Arc::new(serde_json::from_value(node).unwrap())
}

fn check(mut spec: Value, node: Arc<Node>, expected: &str) {
    spec["containers"] = json!([]);
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
    let told = match decide(&pod, &[node], &BTreeMap::new()) {
        Decision::Nothing => "nothing".into(),
        Decision::Bind(node) => format!("bind {node}"),
        Decision::Unschedulable(why) => why.split(" no new claims").next().unwrap_or_default().to_owned(),
    };
    assert_eq!(told, expected);
}

#[test]
fn ordinary_pods_are_bound_and_others_left() {
    let ready = || node(json!({}), "True");
    check(json!({}), ready(), "bind one");
    check(json!({"nodeName": "one"}), ready(), "nothing");
    check(json!({"schedulerName": "mine"}), ready(), "nothing");
    check(json!({"schedulingGates": [{"name": "wait"}]}), ready(), "nothing");
}

#[test]
fn selector_and_affinity() {
    let ready = || node(json!({}), "True");
    let affinity = |operator: &str, key: &str, values: Value| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": key, "operator": operator, "values": values}]},
        ]}}}})
    };
    let refused = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    check(
        json!({"nodeSelector": {"kubernetes.io/os": "linux"}}),
        ready(),
        "bind one",
    );
    check(json!({"nodeSelector": {"kubernetes.io/os": "plan9"}}), ready(), refused);
    check(
        affinity("In", "kubernetes.io/os", json!(["linux", "plan9"])),
        ready(),
        "bind one",
    );
    check(affinity("DoesNotExist", "size", json!([])), ready(), refused);
    check(affinity("Gt", "size", json!(["2"])), ready(), "bind one");
    check(affinity("Lt", "size", json!(["2"])), ready(), refused);
}

#[test]
fn taints_cordons_and_readiness() {
    let tainted = || {
        node(
            json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}),
            "True",
        )
    };
    let refused = "0/1 nodes are available: 1 node(s) had untolerated taint(s).";
    check(json!({}), tainted(), refused);
    check(
        json!({"tolerations": [{"key": "gpu", "value": "yes"}]}),
        tainted(),
        "bind one",
    );
    check(
        json!({"tolerations": [{"key": "gpu", "value": "no"}]}),
        tainted(),
        refused,
    );
    check(json!({"tolerations": [{"operator": "Exists"}]}), tainted(), "bind one");
    check(
        json!({}),
        node(json!({"unschedulable": true}), "True"),
        "0/1 nodes are available: 1 node(s) were unschedulable.",
    );
    check(
        json!({}),
        node(json!({}), "Unknown"),
        "0/1 nodes are available: 1 node(s) were not ready.",
    );
}

#[test]
fn the_node_with_fewer_pods_is_taken() {
    let named = |name: &str, ready: &str| {
        let mut node = (*node(json!({}), ready)).clone();
        node.metadata.name = Some(name.into());
        Arc::new(node)
    };
    let nodes = [named("a", "True"), named("b", "True"), named("c", "False")];
    let pod: Pod = serde_json::from_value(json!({"spec": {"containers": []}})).unwrap();
    let check = |placed: &[(&str, usize)], expected: &str| {
        let placed = placed
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        assert_eq!(decide(&pod, &nodes, &placed), Decision::Bind(expected.into()));
    };
    check(&[], "a");
    check(&[("a", 1)], "b");
    check(&[("a", 1), ("b", 1)], "a");
    check(&[("a", 2), ("b", 1)], "b");
}

#[test]
fn without_nodes_the_pod_waits() {
    let pod: Pod = serde_json::from_value(json!({"spec": {"containers": []}})).unwrap();
    let expected = Decision::Unschedulable("no nodes available to schedule pods".into());
    assert_eq!(decide(&pod, &[], &BTreeMap::new()), expected);
}
