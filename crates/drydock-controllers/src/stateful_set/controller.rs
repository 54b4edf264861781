//! The shell of the StatefulSet controller.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::{Action, Seen, current_revision, decide, pod, status, template_of};
use crate::shell::{Key, Queue, Reconciler, Requeue, Runner, claimed};
use crate::world::{World, on_change, on_owned_change};
use crate::{Error, history, meta, pods, selector};

#[derive(Debug)]
struct StatefulSetController {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.stateful_sets.cache, &queue);
    on_owned_change(&world.pods.cache, &queue, "StatefulSet", |_: &Pod| Vec::new());
    let caches = (
        world.stateful_sets.cache.clone(),
        world.pods.cache.clone(),
        world.revisions.cache.clone(),
    );
    let ready = async move {
        caches.0.synced().await;
        caches.1.synced().await;
        caches.2.synced().await;
    };
    runner.controller(StatefulSetController { world: world.clone() }, queue, 2, ready);
}

impl Reconciler for StatefulSetController {
    const NAME: &'static str = "statefulset-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let world = &self.world;
        let Some(set) = world.stateful_sets.cache.get(key) else {
            return Ok(None);
        };
        let Some(spec) = &set.spec else { return Ok(None) };
        if selector::is_empty(&spec.selector) {
            return Ok(None);
        }
        if spec
            .volume_claim_templates
            .as_ref()
            .is_some_and(|claims| !claims.is_empty())
        {
            let reason =
                "spec.volumeClaimTemplates: there is no storage to bind claims to; use emptyDir or hostPath volumes";
            world.events.of(Self::NAME).warning(&*set, "FailedCreate", reason);
            return Err(Error::Invalid {
                kind: "StatefulSet",
                key: key.clone(),
                reason: reason.into(),
            });
        }
        let candidates = world.pods.cache.in_namespace(&key.namespace);
        let named = candidates
            .into_iter()
            .filter(|pod| pod::ordinal(&set, pod).is_some())
            .collect();
        let owned = claimed(&world.pods, &*set, &spec.selector, named).await?;
        let known = self.revisions(&set);
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let found = history::current(&*set, &spec.template, &spec.selector, &known, collisions);
        let update = match (found.missing, found.renumber) {
            (true, _) => world.revisions.create(&found.revision).await?,
            (_, true) => world.revisions.replace(&found.revision).await?,
            _ => found.revision,
        };
        let current = current_revision(&set, &known, &update);
        let labels = (history::label(current), history::label(&update));
        let now = Timestamp::now();
        let seen = Seen {
            set: &set,
            owned: &owned,
            update: labels.1,
            current: labels.0,
            now,
        };

        let names = (meta::name(&current.metadata), meta::name(&update.metadata));
        if let Some(status) = status(&seen, names, collisions) {
            let mut written = (*set).clone();
            written.status = Some(status);
            world.stateful_sets.replace_status(&written).await?;
        }
        for action in decide(&seen) {
            self.carry_out(&set, action, &known, &update).await?;
        }
        let in_use = |label: &str| {
            label == labels.0 || label == labels.1 || owned.iter().any(|pod| pod::revision(pod) == Some(label))
        };
        for revision in history::surplus(&known, spec.revision_history_limit.unwrap_or(10), &in_use) {
            world.revisions.delete(&revision.metadata).await?;
        }
        let waiting = |pod: &Arc<Pod>| {
            let min_ready = spec.min_ready_seconds.unwrap_or(0);
            pods::is_ready(pod) && !pods::is_available(pod, min_ready, now)
        };
        Ok(owned.iter().any(waiting).then_some(Duration::from_secs(1)))
    }
}

impl StatefulSetController {
    fn revisions(&self, set: &StatefulSet) -> Vec<Arc<ControllerRevision>> {
        let mut known = self.world.revisions.cache.in_namespace(meta::namespace(&set.metadata));
        known.retain(|revision| meta::is_controlled_by(&revision.metadata, set));
        known
    }

    async fn carry_out(
        &self,
        set: &StatefulSet,
        action: Action,
        known: &[Arc<ControllerRevision>],
        update: &ControllerRevision,
    ) -> Result<(), Error> {
        let events = self.world.events.of(Self::NAME);
        let name = meta::name(&set.metadata);
        match action {
            Action::Create { ordinal, revision } => {
                let Some(template) = template_of(&revision, known, update) else {
                    return Ok(());
                };
                let pod = pod::make(set, &template, ordinal, &revision);
                let pod_name = meta::name(&pod.metadata).to_owned();
                match self.world.pods.create(&pod).await {
                    Ok(_) => {
                        let message = format!("create Pod {pod_name} in StatefulSet {name} successful");
                        events.normal(set, "SuccessfulCreate", message);
                        Ok(())
                    }
                    Err(error) => {
                        let why = error.server_message();
                        let message = format!("create Pod {pod_name} in StatefulSet {name} failed error: {why}");
                        events.warning(set, "FailedCreate", message);
                        Err(error)
                    }
                }
            }
            Action::Delete(pod) => {
                self.world.pods.delete(&pod.metadata).await?;
                let pod_name = meta::name(&pod.metadata);
                let message = format!("delete Pod {pod_name} in StatefulSet {name} successful");
                events.normal(set, "SuccessfulDelete", message);
                Ok(())
            }
        }
    }
}
