//! The shell of the DaemonSet controller.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::{Action, Seen, decide, pod, status};
use crate::shell::{Key, Queue, Reconciler, Requeue, Runner, claimed};
use crate::world::{World, on_change, on_owned_change};
use crate::{Error, history, meta, selector};

#[derive(Debug)]
struct DaemonSetController {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.daemon_sets.cache, &queue);
    on_owned_change(&world.pods.cache, &queue, "DaemonSet", |_: &Pod| Vec::new());
    let (sets, again) = (world.daemon_sets.cache.clone(), queue.clone());
    world.nodes.cache.subscribe(move |_| {
        sets.all().iter().for_each(|set| again.add(Key::of(&set.metadata)));
    });
    let caches = (
        world.daemon_sets.cache.clone(),
        world.pods.cache.clone(),
        world.nodes.cache.clone(),
        world.revisions.cache.clone(),
    );
    let ready = async move {
        caches.0.synced().await;
        caches.1.synced().await;
        caches.2.synced().await;
        caches.3.synced().await;
    };
    runner.controller(DaemonSetController { world: world.clone() }, queue, 2, ready);
}

impl Reconciler for DaemonSetController {
    const NAME: &'static str = "daemonset-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let world = &self.world;
        let Some(set) = world.daemon_sets.cache.get(key) else {
            return Ok(None);
        };
        let Some(spec) = &set.spec else { return Ok(None) };
        if selector::is_empty(&spec.selector) {
            return Ok(None);
        }
        let candidates = world.pods.cache.in_namespace(&key.namespace);
        let owned = claimed(&world.pods, &*set, &spec.selector, candidates).await?;
        let mut known = world.revisions.cache.in_namespace(&key.namespace);
        known.retain(|revision| meta::is_controlled_by(&revision.metadata, &*set));
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let found = history::current(&*set, &spec.template, &spec.selector, &known, collisions);
        let update = match (found.missing, found.renumber) {
            (true, _) => world.revisions.create(&found.revision).await?,
            (_, true) => world.revisions.replace(&found.revision).await?,
            _ => found.revision,
        };
        let update = history::label(&update);
        let nodes = world.nodes.cache.all();
        let seen = Seen {
            set: &set,
            owned: &owned,
            nodes: &nodes,
            update,
            now: Timestamp::now(),
        };
        if let Some(status) = status(&seen) {
            let mut written = (*set).clone();
            written.status = Some(status);
            world.daemon_sets.replace_status(&written).await?;
        }
        let events = world.events.of(Self::NAME);
        for action in decide(&seen) {
            match action {
                Action::Create(node) => match world.pods.create(&pod::make(&set, &node, update)).await {
                    Ok(pod) => {
                        let message = format!("Created pod: {}", meta::name(&pod.metadata));
                        events.normal(&*set, "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        let message = format!("Error creating: {}", error.server_message());
                        events.warning(&*set, "FailedCreate", message);
                        return Err(error);
                    }
                },
                Action::Delete(pod) => {
                    world.pods.delete(&pod.metadata).await?;
                    let message = format!("Deleted pod: {}", meta::name(&pod.metadata));
                    events.normal(&*set, "SuccessfulDelete", message);
                }
            }
        }
        let in_use = |label: &str| label == update || owned.iter().any(|pod| pod::revision(pod) == Some(label));
        for revision in history::surplus(&known, spec.revision_history_limit.unwrap_or(10), &in_use) {
            world.revisions.delete(&revision.metadata).await?;
        }
        Ok(None)
    }
}
