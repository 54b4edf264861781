//! The shell of the scheduler.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;

use super::{Decision, NAME, decide};
use crate::shell::{Key, Queue, Reconciler, Requeue, Runner};
use crate::world::{World, on_change};
use crate::{Error, meta, pods};

/// A pod that no node takes is tried again after this time, and whenever a node changes.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// See the module's text.
#[derive(Debug)]
pub struct Scheduler {
    world: World,
    /// Where pods go whose binding the cache does not show yet: without them, pods that are made at once would all go to
    /// one node.
    assumed: Mutex<BTreeMap<Key, String>>,
}

/// Starts the scheduler.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.pods.cache, &queue);
    let (pods, again) = (world.pods.cache.clone(), queue.clone());
    world.nodes.cache.subscribe(move |_| {
        for pod in pods.all() {
            if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
                again.add(Key::of(&pod.metadata));
            }
        }
    });
    let (pods, nodes) = (world.pods.cache.clone(), world.nodes.cache.clone());
    let ready = async move {
        pods.synced().await;
        nodes.synced().await;
    };
    let scheduler = Scheduler {
        world: world.clone(),
        assumed: Mutex::default(),
    };
    runner.controller(scheduler, queue, 2, ready);
}

fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref();
    node.filter(|name| !name.is_empty())
}

impl Reconciler for Scheduler {
    const NAME: &'static str = NAME;

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(pod) = self.world.pods.cache.get(key) else {
            return Ok(None);
        };
        match self.decide(key, &pod) {
            Decision::Nothing => Ok(None),
            Decision::Bind(node) => {
                let bound = self.bind(&pod, &node).await;
                if bound.is_err() {
                    let mut assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
                    assumed.remove(key);
                }
                bound.map(|()| None)
            }
            Decision::Unschedulable(why) => self.refuse(&pod, why).await.map(|()| Some(TRY_AGAIN)),
        }
    }
}

impl Scheduler {
    fn decide(&self, key: &Key, pod: &Pod) -> Decision {
        let nodes = self.world.nodes.cache.all();
        let mut assumed = self.assumed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut placed: BTreeMap<String, usize> = BTreeMap::new();
        let unseen = |key: &Key| {
            let pod = self.world.pods.cache.get(key);
            pod.is_some_and(|pod| node_of(&pod).is_none())
        };
        assumed.retain(|key, _| unseen(key));
        // With one node there is nothing to weigh.
        if nodes.len() > 1 {
            let pods = self.world.pods.cache.all();
            let active = pods.iter().filter(|pod| pods::is_active(pod));
            let seen = active.filter_map(|pod| node_of(pod).map(str::to_owned));
            for node in seen.chain(assumed.values().cloned()) {
                *placed.entry(node).or_default() += 1;
            }
        }
        let decision = decide(pod, &nodes, &placed);
        if let Decision::Bind(node) = &decision {
            assumed.insert(key.clone(), node.clone());
        }
        decision
    }

    async fn bind(&self, pod: &Pod, node: &str) -> Result<(), Error> {
        let name = meta::name(&pod.metadata);
        let namespace = meta::namespace(&pod.metadata);
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(namespace.into()),
                uid: pod.metadata.uid.clone(),
                ..Default::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.into()),
                ..Default::default()
            },
        };
        let params = PostParams::default();
        let api = self.world.pods.api(namespace);
        let bound = api.create_subresource("binding", name, &params, &binding);
        let _: Status = bound.await.map_err(|source| Error::Api {
            action: "bind",
            kind: "Pod".into(),
            key: Key::of(&pod.metadata),
            source: Box::new(source),
        })?;
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        self.world.events.of(NAME).normal(pod, "Scheduled", message);
        Ok(())
    }

    async fn refuse(&self, pod: &Pod, why: String) -> Result<(), Error> {
        let told = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let told = told
            .filter(|condition| condition.type_ == "PodScheduled")
            .any(|c| c.message.as_ref() == Some(&why));
        if told {
            return Ok(());
        }
        let mut refused = pod.clone();
        let conditions = refused
            .status
            .get_or_insert_default()
            .conditions
            .get_or_insert_default();
        conditions.retain(|condition| condition.type_ != "PodScheduled");
        conditions.push(PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("Unschedulable".into()),
            message: Some(why.clone()),
            last_transition_time: Some(meta::time(Timestamp::now())),
            observed_generation: pod.metadata.generation,
            ..Default::default()
        });
        self.world.pods.replace_status(&refused).await?;
        self.world.events.of(NAME).warning(pod, "FailedScheduling", why);
        Ok(())
    }
}
