//! PodDisruptionBudget: how many of its pods may go voluntarily now.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use crate::shell::{Key, Queue, Reconciler, Requeue, Runner};
use crate::world::{World, on_change};
use crate::{Error, meta, percent, pods, selector};

/// The status of a budget, or `None` if it says so already. `wanted`: replicas that the controllers of the selected pods
/// ask for together.
#[must_use]
pub fn decide(
    budget: &PodDisruptionBudget,
    selected: &[Arc<Pod>],
    wanted: i32,
    now: Timestamp,
) -> Option<PodDisruptionBudgetStatus> {
    let spec = budget.spec.as_ref()?;
    let small = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let active: Vec<_> = selected.iter().filter(|pod| pods::is_active(pod)).collect();
    let healthy = small(active.iter().filter(|pod| pods::is_ready(pod)).count());
    // A plain minimum counts the pods there are; a percentage or a maximum counts those there should be.
    let (expected, least) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(max), _) => (wanted, wanted - percent::resolve(max, wanted, true).unwrap_or(0)),
        (None, Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(min))) => {
            (small(active.len()), *min)
        }
        (None, Some(min)) => (wanted, percent::resolve(min, wanted, true).unwrap_or(wanted)),
        (None, None) => (small(active.len()), small(active.len())),
    };
    let least = least.max(0);
    let allowed = if expected > 0 { (healthy - least).max(0) } else { 0 };
    let before = budget.status.clone().unwrap_or_default();
    let status = PodDisruptionBudgetStatus {
        current_healthy: healthy,
        desired_healthy: least,
        disruptions_allowed: allowed,
        expected_pods: expected,
        observed_generation: budget.metadata.generation,
        disrupted_pods: before.disrupted_pods.clone(),
        conditions: Some(vec![condition(budget, &before, allowed > 0, now)]),
    };
    (budget.status.as_ref() != Some(&status)).then_some(status)
}

fn condition(
    budget: &PodDisruptionBudget,
    before: &PodDisruptionBudgetStatus,
    allowed: bool,
    now: Timestamp,
) -> Condition {
    let (status, reason) = if allowed {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    let known = before
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "DisruptionAllowed" && c.status == status);
    Condition {
        type_: "DisruptionAllowed".into(),
        status: status.into(),
        reason: reason.into(),
        message: String::new(),
        observed_generation: budget.metadata.generation,
        last_transition_time: known.map_or_else(|| meta::time(now), |known| known.last_transition_time.clone()),
    }
}

#[derive(Debug)]
struct Disruption {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.budgets.cache, &queue);
    let (budgets, again) = (world.budgets.cache.clone(), queue.clone());
    world.pods.cache.subscribe(move |change| {
        for pod in change.old.iter().chain(&change.new) {
            for budget in budgets.in_namespace(meta::namespace(&pod.metadata)) {
                if selects(&budget, pod) {
                    again.add(Key::of(&budget.metadata));
                }
            }
        }
    });
    let (budgets, pods) = (world.budgets.cache.clone(), world.pods.cache.clone());
    let ready = async move {
        budgets.synced().await;
        pods.synced().await;
    };
    runner.controller(Disruption { world: world.clone() }, queue, 1, ready);
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let wanted = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    wanted.is_some_and(|wanted| selector::matches(wanted, pod.metadata.labels.as_ref()))
}

impl Reconciler for Disruption {
    const NAME: &'static str = "disruption-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(budget) = self.world.budgets.cache.get(key) else {
            return Ok(None);
        };
        let mut selected = self.world.pods.cache.in_namespace(&key.namespace);
        selected.retain(|pod| selects(&budget, pod));
        let wanted = self.wanted(&selected);
        if let Some(status) = decide(&budget, &selected, wanted, Timestamp::now()) {
            let mut written = (*budget).clone();
            written.status = Some(status);
            self.world.budgets.replace_status(&written).await?;
        }
        Ok(None)
    }
}

impl Disruption {
    /// Replicas that the owners of the pods ask for; a pod without an owner of a known kind counts as itself.
    fn wanted(&self, selected: &[Arc<Pod>]) -> i32 {
        let mut owners = std::collections::BTreeMap::new();
        for pod in selected.iter().filter(|pod| pods::is_active(pod)) {
            let Some(owner) = meta::controller_of(&pod.metadata) else {
                owners.insert(meta::name(&pod.metadata).to_owned(), 1);
                continue;
            };
            let key = Key::new(meta::namespace(&pod.metadata), owner.name.clone());
            let replicas = match owner.kind.as_str() {
                "ReplicaSet" => self
                    .world
                    .replica_sets
                    .cache
                    .get(&key)
                    .and_then(|set| set.spec.as_ref()?.replicas),
                "StatefulSet" => self
                    .world
                    .stateful_sets
                    .cache
                    .get(&key)
                    .and_then(|set| set.spec.as_ref()?.replicas),
                _ => None,
            };
            match replicas {
                Some(replicas) => drop(owners.insert(owner.uid.clone(), replicas)),
                None => *owners.entry(owner.uid.clone()).or_insert(0) += 1,
            }
        }
        owners.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, healthy: usize, wanted: i32, expected: (i32, i32, i32)) {
        let budget: PodDisruptionBudget =
            serde_json::from_value(json!({"metadata": {"name": "b", "generation": 1}, "spec": spec})).unwrap();
        let pod = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let pods: Vec<Arc<Pod>> = (0..healthy)
            .map(|_| Arc::new(serde_json::from_value(pod.clone()).unwrap()))
            .collect();
        let status = decide(&budget, &pods, wanted, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            (status.expected_pods, status.desired_healthy, status.disruptions_allowed),
            expected,
            "{spec}"
        );
        let mut budget = budget;
        budget.status = Some(status);
        assert_eq!(decide(&budget, &pods, wanted, Timestamp::now()), None);
    }

    #[test]
    fn minimum_and_maximum() {
        check(json!({"minAvailable": 1}), 1, 1, (1, 1, 0));
        check(json!({"minAvailable": 1}), 3, 3, (3, 1, 2));
        check(json!({"minAvailable": "50%"}), 3, 3, (3, 2, 1));
        check(json!({"maxUnavailable": 1}), 3, 3, (3, 2, 1));
        check(json!({"maxUnavailable": 1}), 2, 3, (3, 2, 0));
        check(json!({"maxUnavailable": "100%"}), 0, 0, (0, 0, 0));
    }
}
