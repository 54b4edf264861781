//! Node lifecycle: a node that is not heard of any more is unknown, and so is what its pods do. What ails a node is
//! written on it as taints.
//!
//! A node shows that it lives by renewing its Lease in `kube-node-lease`. Only changes of the Lease count, by our own
//! clock: the node's clock may be wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus, Pod, PodStatus, Taint};
use k8s_openapi::jiff::Timestamp;

use crate::shell::{Key, Queue, Reconciler, Requeue, Runner};
use crate::world::{World, on_change};
use crate::{Error, meta, pods};

/// A node that is silent for so long is unknown.
const GRACE: Duration = Duration::from_secs(40);
/// Namespace of the nodes' Leases.
pub const LEASES: &str = "kube-node-lease";

/// The status of a node that has been silent for `silent`, or `None` if it says so already or is not overdue.
#[must_use]
pub fn decide(node: &Node, silent: Duration, now: Timestamp) -> Option<NodeStatus> {
    if silent < GRACE {
        return None;
    }
    let mut status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    for kind in ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"] {
        let unknown = |before: Option<&NodeCondition>| NodeCondition {
            type_: kind.into(),
            status: "Unknown".into(),
            reason: Some("NodeStatusUnknown".into()),
            message: Some("Kubelet stopped posting node status.".into()),
            last_heartbeat_time: before.and_then(|condition| condition.last_heartbeat_time.clone()),
            last_transition_time: Some(meta::time(now)),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => *condition = unknown(Some(condition)),
            None => conditions.push(unknown(None)),
        }
    }
    (node.status.as_ref() != Some(&status)).then_some(status)
}

/// Conditions that become taints: condition, its status, the taint's key (all with effect NoSchedule).
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", "node.kubernetes.io/not-ready"),
    ("Ready", "Unknown", "node.kubernetes.io/unreachable"),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const CORDON: &str = "node.kubernetes.io/unschedulable";

/// The node with the taints that its conditions ask for, or `None` if it has them. A new node carries `not-ready` from
/// the API server until it is ready.
#[must_use]
pub fn tainted(node: &Node) -> Option<Node> {
    let conditions: Vec<_> = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .collect();
    if !conditions.iter().any(|condition| condition.type_ == "Ready") {
        return None; // it has not said anything yet
    }
    let holds = |kind: &str, status: &str| conditions.iter().any(|c| c.type_ == kind && c.status == status);
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let due = TAINTS
        .iter()
        .map(|(kind, status, key)| (*key, holds(kind, status)))
        .chain([(CORDON, cordoned)]);

    let mut changed = node.clone();
    let taints = changed.spec.get_or_insert_default().taints.get_or_insert_default();
    for (key, due) in due {
        let ours = |taint: &Taint| taint.key == key && taint.effect == "NoSchedule";
        if !due {
            taints.retain(|taint| !ours(taint));
        } else if !taints.iter().any(ours) {
            taints.push(Taint {
                key: key.into(),
                effect: "NoSchedule".into(),
                ..Default::default()
            });
        }
    }
    let before = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    if taints.iter().eq(before) {
        return None;
    }
    Some(changed)
}

/// The status of a ready pod on a node that is unknown: nobody can say that it is ready.
#[must_use]
pub fn not_ready(pod: &Pod, now: Timestamp) -> Option<PodStatus> {
    if !pods::is_ready(pod) {
        return None;
    }
    let mut status = pod.status.clone()?;
    for condition in status
        .conditions
        .iter_mut()
        .flatten()
        .filter(|condition| condition.type_ == "Ready")
    {
        condition.status = "False".into();
        condition.reason = Some("NodeNotReady".into());
        condition.last_transition_time = Some(meta::time(now));
    }
    Some(status)
}

#[derive(Debug)]
struct NodeLifecycle {
    world: World,
    /// When each node was last heard of.
    heard: Arc<Mutex<BTreeMap<String, Instant>>>,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.nodes.cache, &queue);
    let heard: Arc<Mutex<BTreeMap<String, Instant>>> = Arc::default();
    let hearing = heard.clone();
    world.leases.cache.subscribe(move |change| {
        if let Some(lease) = &change.new
            && meta::namespace(&lease.metadata) == LEASES
        {
            let mut heard = hearing.lock().unwrap_or_else(PoisonError::into_inner);
            heard.insert(meta::name(&lease.metadata).to_owned(), Instant::now());
        }
    });
    let caches = (
        world.nodes.cache.clone(),
        world.leases.cache.clone(),
        world.pods.cache.clone(),
    );
    let ready = async move {
        caches.0.synced().await;
        caches.1.synced().await;
        caches.2.synced().await;
    };
    runner.controller(
        NodeLifecycle {
            world: world.clone(),
            heard,
        },
        queue,
        1,
        ready,
    );
}

impl Reconciler for NodeLifecycle {
    const NAME: &'static str = "node-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(node) = self.world.nodes.cache.get(key) else {
            return self.forget(&key.name).await.map(|()| None);
        };
        let silent = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            // Before the first word of a node the time counts from when we began to listen.
            heard.entry(key.name.clone()).or_insert_with(Instant::now).elapsed()
        };
        if let Some(changed) = tainted(&node) {
            self.world.nodes.replace(&changed).await?;
            return Ok(Some(Duration::ZERO));
        }
        let now = Timestamp::now();
        if let Some(status) = decide(&node, silent, now) {
            let mut written = (*node).clone();
            written.status = Some(status);
            self.world.nodes.replace_status(&written).await?;
            let message = format!("Node {} status is now: NodeNotReady", key.name);
            self.world.events.of(Self::NAME).normal(&*node, "NodeNotReady", message);
        }
        if silent >= GRACE {
            for pod in self.pods_of(&key.name) {
                if let Some(status) = not_ready(&pod, now) {
                    let mut written = (*pod).clone();
                    written.status = Some(status);
                    self.world.pods.replace_status(&written).await?;
                    self.world
                        .events
                        .of(Self::NAME)
                        .warning(&*pod, "NodeNotReady", "Node is not ready");
                }
            }
        }
        Ok(Some(GRACE.saturating_sub(silent).max(Duration::from_secs(5))))
    }
}

impl NodeLifecycle {
    fn pods_of(&self, node: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.world.pods.cache.all();
        pods.retain(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node));
        pods
    }

    /// The node was deleted: nobody will ever end its pods.
    async fn forget(&self, node: &str) -> Result<(), Error> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
        for pod in self.pods_of(node) {
            self.world.pods.delete_now(&pod.metadata).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ready_node() -> Node {
        let conditions = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady"}]);
        serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": conditions}})).unwrap()
    }

    #[test]
    fn silence_makes_a_node_unknown_once() {
        let mut node = ready_node();
        assert_eq!(decide(&node, Duration::from_secs(39), Timestamp::UNIX_EPOCH), None);
        node.status = decide(&node, GRACE, Timestamp::UNIX_EPOCH);
        let told: Vec<_> = node.status.iter().flat_map(|s| s.conditions.iter().flatten()).collect();
        assert!(told.iter().all(|condition| condition.status == "Unknown"));
        assert_eq!(told.len(), 4);
        assert_eq!(decide(&node, GRACE * 2, Timestamp::now()), None);
    }

    #[test]
    fn conditions_become_taints_and_others_stay() {
        let check = |ready: &str, cordoned: bool, before: serde_json::Value, expected: &str| {
            let node = json!({
                "spec": {"unschedulable": cordoned, "taints": before},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            });
            let node: Node = serde_json::from_value(node).unwrap();
            let changed = tainted(&node).map(|node| {
                let taints = node.spec.unwrap_or_default().taints.unwrap_or_default();
                taints
                    .iter()
                    .map(|taint| taint.key.clone())
                    .collect::<Vec<_>>()
                    .join(" ")
            });
            assert_eq!(changed.as_deref().unwrap_or("same"), expected);
        };
        let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        let own = json!({"key": "gpu", "effect": "NoSchedule"});
        check("True", false, json!([not_ready, own]), "gpu");
        check("True", false, json!([own]), "same");
        check("False", false, json!([own]), "gpu node.kubernetes.io/not-ready");
        check("Unknown", false, json!([not_ready]), "node.kubernetes.io/unreachable");
        check("True", true, json!([]), "node.kubernetes.io/unschedulable");
        assert_eq!(tainted(&Node::default()), None);
    }

    #[test]
    fn its_pods_are_not_ready() {
        let conditions = json!([{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]);
        let mut pod: Pod = serde_json::from_value(json!({"status": {"conditions": conditions}})).unwrap();
        pod.status = not_ready(&pod, Timestamp::UNIX_EPOCH);
        assert!(!pods::is_ready(&pod));
        assert_eq!(not_ready(&pod, Timestamp::now()), None);
    }
}
