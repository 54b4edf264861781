//! The shell of the Job controller.

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::{decide, pod};
use crate::shell::{Key, Queue, Reconciler, Requeue, Runner};
use crate::world::{World, on_change, on_owned_change};
use crate::{Error, meta};

#[derive(Debug)]
struct JobController {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.jobs.cache, &queue);
    on_owned_change(&world.pods.cache, &queue, "Job", |_: &Pod| Vec::new());
    let (jobs, pods) = (world.jobs.cache.clone(), world.pods.cache.clone());
    let ready = async move {
        jobs.synced().await;
        pods.synced().await;
    };
    runner.controller(JobController { world: world.clone() }, queue, 2, ready);
}

impl Reconciler for JobController {
    const NAME: &'static str = "job-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let world = &self.world;
        let Some(job) = world.jobs.cache.get(key) else {
            return Ok(None);
        };
        let mut owned = world.pods.cache.in_namespace(&key.namespace);
        owned.retain(|pod| meta::is_controlled_by(&pod.metadata, &*job));
        let plan = decide(&job, &owned, Timestamp::now());
        let events = world.events.of(Self::NAME);
        if plan.remove {
            world.jobs.delete(&job.metadata).await?;
            return Ok(None);
        }
        // The status first: it holds the time at which the Job began.
        if let Some(status) = plan.status {
            let mut written = (*job).clone();
            written.status = Some(status);
            world.jobs.replace_status(&written).await?;
        }
        let surplus = plan.delete.iter().filter(|pod| !meta::is_terminating(&pod.metadata));
        for pod in surplus {
            world.pods.delete(&pod.metadata).await?;
            events.normal(
                &*job,
                "SuccessfulDelete",
                format!("Deleted pod: {}", meta::name(&pod.metadata)),
            );
        }
        let made: Vec<_> = plan.create.iter().map(|index| pod::make(&job, *index)).collect();
        match try_join_all(made.iter().map(|pod| world.pods.create(pod))).await {
            Ok(made) => {
                for pod in made {
                    events.normal(
                        &*job,
                        "SuccessfulCreate",
                        format!("Created pod: {}", meta::name(&pod.metadata)),
                    );
                }
            }
            Err(error) => {
                events.warning(
                    &*job,
                    "FailedCreate",
                    format!("Error creating: {}", error.server_message()),
                );
                return Err(error);
            }
        }
        for (warning, reason, message) in plan.events {
            match warning {
                true => events.warning(&*job, reason, message),
                false => events.normal(&*job, reason, message),
            }
        }
        Ok(plan.requeue)
    }
}
