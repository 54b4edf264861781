//! The shell of the CronJob controller.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;

use super::decide;
use crate::shell::{Key, Queue, Reconciler, Requeue, Runner};
use crate::world::{World, on_change, on_owned_change};
use crate::{Error, meta};

#[derive(Debug)]
struct CronJobController {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.cron_jobs.cache, &queue);
    on_owned_change(&world.jobs.cache, &queue, "CronJob", |_: &Job| Vec::new());
    let (crons, jobs) = (world.cron_jobs.cache.clone(), world.jobs.cache.clone());
    let ready = async move {
        crons.synced().await;
        jobs.synced().await;
    };
    runner.controller(CronJobController { world: world.clone() }, queue, 1, ready);
}

impl Reconciler for CronJobController {
    const NAME: &'static str = "cronjob-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let world = &self.world;
        let Some(cron) = world.cron_jobs.cache.get(key) else {
            return Ok(None);
        };
        let mut owned = world.jobs.cache.in_namespace(&key.namespace);
        owned.retain(|job| meta::is_controlled_by(&job.metadata, &*cron));
        let plan = decide(&cron, &owned, Timestamp::now());
        let events = world.events.of(Self::NAME);
        for (warning, reason, message) in plan.events {
            match warning {
                true => events.warning(&*cron, reason, message),
                false => events.normal(&*cron, reason, message),
            }
        }
        for job in plan.delete {
            world.jobs.delete(&job.metadata).await?;
            let message = format!("Deleted job {}", meta::name(&job.metadata));
            events.normal(&*cron, "SuccessfulDelete", message);
        }
        if let Some(job) = plan.create {
            match world.jobs.create(&job).await {
                Ok(made) => {
                    let message = format!("Created job {}", meta::name(&made.metadata));
                    events.normal(&*cron, "SuccessfulCreate", message);
                }
                // Made before, by a process that could not write that down.
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    events.warning(
                        &*cron,
                        "FailedCreate",
                        format!("Error creating job: {}", error.server_message()),
                    );
                    return Err(error);
                }
            }
        }
        if let Some(status) = plan.status {
            let mut written = (*cron).clone();
            written.status = Some(status);
            world.cron_jobs.replace_status(&written).await?;
        }
        Ok(plan.requeue)
    }
}
