//! The shell of the Deployment controller.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::jiff::Timestamp;

use super::{Action, Seen, decide};
use crate::shell::{Key, Queue, Reconciler, Requeue, Runner, claimed};
use crate::world::{World, on_change, on_owned_change};
use crate::{Error, meta, pods, selector};

/// See the module's text.
#[derive(Debug)]
pub struct DeploymentController {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.deployments.cache, &queue);
    let deployments = world.deployments.cache.clone();
    on_owned_change(
        &world.replica_sets.cache,
        &queue,
        "Deployment",
        move |set: &ReplicaSet| {
            let all = deployments.in_namespace(meta::namespace(&set.metadata));
            let selecting = all.iter().filter(|deployment| {
                let spec = deployment.spec.as_ref();
                spec.is_some_and(|spec| selector::matches(&spec.selector, set.metadata.labels.as_ref()))
            });
            selecting.map(|deployment| Key::of(&deployment.metadata)).collect()
        },
    );
    // Recreate waits for the last old pod, whose end may be the last thing that happens.
    let (sets, again) = (world.replica_sets.cache.clone(), queue.clone());
    world.pods.cache.subscribe(move |change| {
        if change.new.is_none()
            && let Some(pod) = &change.old
            && let Some(owner) = meta::controller_of(&pod.metadata)
            && let Some(set) = sets.get(&Key::new(meta::namespace(&pod.metadata), owner.name.clone()))
            && let Some(deployment) = meta::controller_of(&set.metadata)
        {
            again.add(Key::new(meta::namespace(&set.metadata), deployment.name.clone()));
        }
    });
    let caches = (
        world.deployments.cache.clone(),
        world.replica_sets.cache.clone(),
        world.pods.cache.clone(),
    );
    let ready = async move {
        caches.0.synced().await;
        caches.1.synced().await;
        caches.2.synced().await;
    };
    runner.controller(DeploymentController { world: world.clone() }, queue, 2, ready);
}

impl Reconciler for DeploymentController {
    const NAME: &'static str = "deployment-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(deployment) = self.world.deployments.cache.get(key) else {
            return Ok(None);
        };
        let Some(spec) = &deployment.spec else { return Ok(None) };
        let candidates = self.world.replica_sets.cache.in_namespace(&key.namespace);
        let sets = match selector::is_empty(&spec.selector) {
            true => Vec::new(),
            false => claimed(&self.world.replica_sets, &*deployment, &spec.selector, candidates).await?,
        };
        let pods = self.world.pods.cache.in_namespace(&key.namespace);
        let unfinished = pods.iter().filter(|pod| !pods::is_finished(pod));
        let running = unfinished
            .filter_map(|pod| Some(meta::controller_of(&pod.metadata)?.uid.clone()))
            .collect();
        let seen = Seen {
            deployment: &deployment,
            replica_sets: &sets,
            running: &running,
            now: Timestamp::now(),
        };
        let actions = decide(&seen);
        self.carry_out((*deployment).clone(), actions).await
    }
}

impl DeploymentController {
    async fn carry_out(&self, mut deployment: Deployment, actions: Vec<Action>) -> Result<Requeue, Error> {
        let events = self.world.events.of(Self::NAME);
        let mut requeue = None;
        for action in actions {
            match action {
                Action::Create(set) => match self.world.replica_sets.create(&set).await {
                    Ok(_) => {}
                    Err(error) if error.is_already_exists() => return self.collision(deployment, &set).await,
                    Err(error) => {
                        events.warning(
                            &deployment,
                            "ReplicaSetCreateError",
                            format!(
                                "Failed to create new replica set \"{}\": {}",
                                meta::name(&set.metadata),
                                error.server_message()
                            ),
                        );
                        return Err(error);
                    }
                },
                Action::Update(set) => {
                    self.world.replica_sets.replace(&set).await?;
                }
                Action::Delete(set) => self.world.replica_sets.delete(&set.metadata).await?,
                Action::Annotate(annotated) => {
                    // Through the status, as the real controller: an annotation must not count as a new generation.
                    deployment = self.world.deployments.replace_status(&annotated).await?;
                }
                Action::Status(status) => {
                    deployment.status = Some(*status);
                    deployment = self.world.deployments.replace_status(&deployment).await?;
                }
                Action::Scaled(message) => events.normal(&deployment, "ScalingReplicaSet", message),
                Action::Warn(reason, message) => events.warning(&deployment, reason, message),
                Action::Requeue(delay) => requeue = Some(delay),
            }
        }
        Ok(requeue)
    }

    /// The name of the new ReplicaSet is taken. Ours with a stale cache: look again. Somebody else's: another hash.
    async fn collision(&self, mut deployment: Deployment, set: &ReplicaSet) -> Result<Requeue, Error> {
        let api = self.world.replica_sets.api(meta::namespace(&set.metadata));
        let taken = api
            .get_opt(meta::name(&set.metadata))
            .await
            .map_err(|source| Error::Api {
                action: "read",
                kind: "ReplicaSet".into(),
                key: Key::of(&set.metadata),
                source: Box::new(source),
            })?;
        match taken {
            Some(taken) if !meta::is_controlled_by(&taken.metadata, &deployment) => {
                let status = deployment.status.get_or_insert_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                self.world.deployments.replace_status(&deployment).await?;
            }
            Some(ours) => self.world.replica_sets.cache.wrote(ours),
            None => {}
        }
        Ok(Some(std::time::Duration::from_millis(10)))
    }
}
