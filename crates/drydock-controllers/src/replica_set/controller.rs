//! The shell of the ReplicaSet controller.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::status::{Failure, check_again, status};
use super::{Action, decide};
use crate::shell::{Key, Queue, Reconciler, Requeue, Runner, claimed};
use crate::world::{World, on_change, on_owned_change};
use crate::{Error, meta, pods, selector};

/// See the module's text.
#[derive(Debug)]
pub struct ReplicaSetController {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.replica_sets.cache, &queue);
    let sets = world.replica_sets.cache.clone();
    on_owned_change(&world.pods.cache, &queue, "ReplicaSet", move |pod: &Pod| {
        let all = sets.in_namespace(meta::namespace(&pod.metadata));
        let selecting = all.iter().filter(|set| {
            set.spec
                .as_ref()
                .is_some_and(|spec| selector::matches(&spec.selector, pod.metadata.labels.as_ref()))
        });
        selecting.map(|set| Key::of(&set.metadata)).collect()
    });
    let (sets, pods) = (world.replica_sets.cache.clone(), world.pods.cache.clone());
    let ready = async move {
        sets.synced().await;
        pods.synced().await;
    };
    runner.controller(ReplicaSetController { world: world.clone() }, queue, 4, ready);
}

impl Reconciler for ReplicaSetController {
    const NAME: &'static str = "replicaset-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(set) = self.world.replica_sets.cache.get(key) else {
            return Ok(None);
        };
        let Some(spec) = &set.spec else { return Ok(None) };
        if selector::is_empty(&spec.selector) {
            return Ok(None);
        }
        let candidates = self.world.pods.cache.in_namespace(&key.namespace);
        let owned = claimed(&self.world.pods, &*set, &spec.selector, candidates).await?;
        let outcome = self.carry_out(&set, decide(&set, &owned)).await;

        // What the status tells is looked up again: it includes what was just made.
        let now = Timestamp::now();
        let mut owned = self.world.pods.cache.in_namespace(&key.namespace);
        owned.retain(|pod| meta::is_controlled_by(&pod.metadata, &*set));
        let failure = outcome.as_ref().err().map(|(failure, _)| failure);
        if let Some(status) = status(&set, &owned, failure, now) {
            let mut written = (*set).clone();
            written.status = Some(status);
            self.world.replica_sets.replace_status(&written).await?;
        }
        match outcome {
            Ok(()) => Ok(check_again(&set, &owned, now)),
            Err((_, error)) => Err(error),
        }
    }
}

impl ReplicaSetController {
    async fn carry_out(&self, set: &ReplicaSet, action: Action) -> Result<(), (Failure, Error)> {
        match action {
            Action::Nothing => Ok(()),
            Action::Create(number) => self.create(set, number).await,
            Action::Delete(surplus) => self.delete(set, surplus).await,
        }
    }

    /// Makes pods, in batches of 1, 2, 4, … so that a template that the server refuses is refused once, not 500 times.
    async fn create(&self, set: &ReplicaSet, number: usize) -> Result<(), (Failure, Error)> {
        let events = self.world.events.of(Self::NAME);
        let template = set
            .spec
            .as_ref()
            .and_then(|spec| spec.template.clone())
            .unwrap_or_default();
        let prefix = format!("{}-", meta::name(&set.metadata));
        let pod = pods::from_template(
            &template,
            &prefix,
            meta::namespace(&set.metadata),
            meta::controller_ref(set),
        );
        let (mut left, mut batch) = (number, 1);
        while left > 0 {
            let now = batch.min(left);
            for made in join_all((0..now).map(|_| self.world.pods.create(&pod))).await {
                match made {
                    Ok(pod) => {
                        events.normal(
                            set,
                            "SuccessfulCreate",
                            format!("Created pod: {}", meta::name(&pod.metadata)),
                        );
                    }
                    Err(error) => {
                        let message = error.server_message();
                        if !error.is_namespace_terminating() {
                            events.warning(set, "FailedCreate", format!("Error creating: {message}"));
                        }
                        return Err((
                            Failure {
                                reason: "FailedCreate",
                                message,
                            },
                            error,
                        ));
                    }
                }
            }
            left -= now;
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, set: &ReplicaSet, surplus: Vec<Arc<Pod>>) -> Result<(), (Failure, Error)> {
        let events = self.world.events.of(Self::NAME);
        let deleted = join_all(surplus.iter().map(|pod| self.world.pods.delete(&pod.metadata))).await;
        let mut outcome = Ok(());
        for (pod, deleted) in surplus.iter().zip(deleted) {
            match deleted {
                Ok(()) => {
                    events.normal(
                        set,
                        "SuccessfulDelete",
                        format!("Deleted pod: {}", meta::name(&pod.metadata)),
                    );
                }
                Err(error) => {
                    let message = error.server_message();
                    events.warning(set, "FailedDelete", format!("Error deleting: {message}"));
                    outcome = Err((
                        Failure {
                            reason: "FailedDelete",
                            message,
                        },
                        error,
                    ));
                }
            }
        }
        outcome
    }
}
