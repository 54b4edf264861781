//! HorizontalPodAutoscaler without metrics: keeps its target between the least and the most replicas.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::shell::{Key, Queue, Reconciler, Requeue, Runner};
use crate::world::{World, on_change};
use crate::{Error, meta};

const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// What is seen of the target of an autoscaler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Replicas that it is told to have.
    pub wanted: i32,
    /// Replicas that it has.
    pub current: i32,
}

/// The number of replicas to write into the target (if it is another), and the status of the autoscaler (if it changes).
#[must_use]
pub fn decide(
    scaler: &HorizontalPodAutoscaler,
    target: Option<Target>,
    now: Timestamp,
) -> (Option<i32>, Option<HorizontalPodAutoscalerStatus>) {
    let Some(spec) = &scaler.spec else { return (None, None) };
    let least = spec.min_replicas.unwrap_or(1);
    let most = spec.max_replicas.max(least);
    let before = scaler.status.clone().unwrap_or_default();
    // Somebody who scales to nothing switches the autoscaler off.
    let wanted = target
        .filter(|target| target.wanted > 0)
        .map(|target| target.wanted.clamp(least, most));
    let scale = wanted.filter(|wanted| target.is_some_and(|target| target.wanted != *wanted));

    let able = match target {
        Some(_) => (
            "True",
            "SucceededGetScale",
            "the HPA controller was able to get the target's current scale".to_owned(),
        ),
        None => (
            "False",
            "FailedGetScale",
            "the HPA controller was unable to get the target's current scale".to_owned(),
        ),
    };
    let active = match target {
        Some(Target { wanted: 0, .. }) => (
            "False",
            "ScalingDisabled",
            "scaling is disabled since the replica count of the target is zero".to_owned(),
        ),
        _ => (
            "False",
            "FailedGetResourceMetric",
            "there is no metrics API: replicas are kept within their bounds only".to_owned(),
        ),
    };
    let conditions = [("AbleToScale", able), ("ScalingActive", active)];
    let conditions = conditions.into_iter().map(|(kind, (status, reason, message))| {
        let known = before
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == kind && c.status == status);
        HorizontalPodAutoscalerCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: known.map_or_else(|| Some(meta::time(now)), |c| c.last_transition_time.clone()),
        }
    });
    let status = HorizontalPodAutoscalerStatus {
        observed_generation: scaler.metadata.generation,
        current_replicas: target.map(|target| target.current),
        desired_replicas: wanted.or(target.map(|target| target.wanted)).unwrap_or(0),
        last_scale_time: if scale.is_some() {
            Some(meta::time(now))
        } else {
            before.last_scale_time.clone()
        },
        current_metrics: before.current_metrics.clone(),
        conditions: Some(conditions.collect()),
    };
    (scale, (scaler.status.as_ref() != Some(&status)).then_some(status))
}

#[derive(Debug)]
struct Autoscaler {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.autoscalers.cache, &queue);
    let (scalers, again) = (world.autoscalers.cache.clone(), queue.clone());
    world.deployments.cache.subscribe(move |change| {
        if let Some(deployment) = &change.new {
            let all = scalers.in_namespace(meta::namespace(&deployment.metadata));
            let ours = all.iter().filter(|scaler| {
                let target = scaler.spec.as_ref().map(|spec| &spec.scale_target_ref);
                target.is_some_and(|target| Some(&target.name) == deployment.metadata.name.as_ref())
            });
            ours.for_each(|scaler| again.add(Key::of(&scaler.metadata)));
        }
    });
    let (scalers, deployments) = (world.autoscalers.cache.clone(), world.deployments.cache.clone());
    let ready = async move {
        scalers.synced().await;
        deployments.synced().await;
    };
    runner.controller(Autoscaler { world: world.clone() }, queue, 1, ready);
}

impl Reconciler for Autoscaler {
    const NAME: &'static str = "horizontal-pod-autoscaler";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(scaler) = self.world.autoscalers.cache.get(key) else {
            return Ok(None);
        };
        let Some(spec) = &scaler.spec else { return Ok(None) };
        let target_key = Key::new(&key.namespace, &spec.scale_target_ref.name);
        let target = self.target(&spec.scale_target_ref.kind, &target_key);
        let (scale, status) = decide(&scaler, target, Timestamp::now());
        if let Some(replicas) = scale {
            self.scale(&spec.scale_target_ref.kind, &target_key, replicas).await?;
            let bound = if target.is_some_and(|target| target.wanted < replicas) {
                "below minReplicas"
            } else {
                "above maxReplicas"
            };
            let message = format!("New size: {replicas}; reason: Current number of replicas {bound}");
            self.world
                .events
                .of(Self::NAME)
                .normal(&*scaler, "SuccessfulRescale", message);
        }
        if let Some(status) = status {
            let mut written = (*scaler).clone();
            written.status = Some(status);
            self.world.autoscalers.replace_status(&written).await?;
        }
        Ok(Some(LOOK_AGAIN))
    }
}

impl Autoscaler {
    fn target(&self, kind: &str, key: &Key) -> Option<Target> {
        let world = &self.world;
        let (wanted, current) = match kind {
            "Deployment" => {
                let object = world.deployments.cache.get(key)?;
                (
                    object.spec.as_ref()?.replicas,
                    object.status.as_ref().and_then(|status| status.replicas),
                )
            }
            "ReplicaSet" => {
                let object = world.replica_sets.cache.get(key)?;
                (
                    object.spec.as_ref()?.replicas,
                    object.status.as_ref().map(|status| status.replicas),
                )
            }
            "StatefulSet" => {
                let object = world.stateful_sets.cache.get(key)?;
                (
                    object.spec.as_ref()?.replicas,
                    object.status.as_ref().map(|status| status.replicas),
                )
            }
            _ => return None,
        };
        Some(Target {
            wanted: wanted.unwrap_or(1),
            current: current.unwrap_or(0),
        })
    }

    async fn scale(&self, kind: &str, key: &Key, replicas: i32) -> Result<(), Error> {
        let client = self.world.autoscalers.client().clone();
        let change = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let (params, name) = (PatchParams::default(), &key.name);
        let scaled = match kind {
            "Deployment" => {
                Api::<Deployment>::namespaced(client, &key.namespace)
                    .patch_scale(name, &params, &change)
                    .await
            }
            "ReplicaSet" => {
                Api::<ReplicaSet>::namespaced(client, &key.namespace)
                    .patch_scale(name, &params, &change)
                    .await
            }
            _ => {
                Api::<StatefulSet>::namespaced(client, &key.namespace)
                    .patch_scale(name, &params, &change)
                    .await
            }
        };
        scaled.map(drop).map_err(|source| Error::Api {
            action: "scale",
            kind: kind.to_owned(),
            key: key.clone(),
            source: Box::new(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: i32, expected: Option<i32>) {
        let scaler = json!({
            "metadata": {"name": "s", "generation": 1},
            "spec": {"minReplicas": 2, "maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "d"}},
        });
        let mut scaler: HorizontalPodAutoscaler = serde_json::from_value(scaler).unwrap();
        let target = Some(Target {
            wanted,
            current: wanted,
        });
        let (scale, status) = decide(&scaler, target, Timestamp::UNIX_EPOCH);
        assert_eq!(scale, expected, "{wanted}");
        scaler.status = status;
        if expected.is_none() {
            assert_eq!(
                decide(&scaler, target, Timestamp::now()),
                (None, None),
                "nothing is written twice"
            );
        }
    }

    #[test]
    fn replicas_are_kept_within_bounds() {
        check(1, Some(2));
        check(2, None);
        check(5, None);
        check(9, Some(5));
        check(0, None);
    }
}
