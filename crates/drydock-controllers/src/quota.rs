//! ResourceQuota: how many objects there are of the kinds that a quota counts. The API server refuses what is too much.
//!
//! Pods that have ended do not count, except for `count/pods`, which is about objects. Amounts of CPU, memory and storage
//! are not summed up: a quota for them says nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::{DynamicObject, ListParams, PartialObjectMeta};

use crate::shell::{Key, Queue, Reconciler, Requeue, Resource, Runner, catalogue};
use crate::world::{World, on_change};
use crate::{Error, pods};

/// How often is counted: there is no watch on every kind.
const AGAIN: Duration = Duration::from_secs(2);

/// The plural and group that an entry of `spec.hard` counts: `pods`, `count/deployments.apps`.
fn counted(name: &str) -> Option<(&str, &str)> {
    const PLAIN: [&str; 7] = [
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
    ];
    match name.strip_prefix("count/") {
        Some(full) => Some(full.split_once('.').unwrap_or((full, ""))),
        None => PLAIN.contains(&name).then_some((name, "")),
    }
}

/// The status, if it is to be written: what is limited, and of that what was counted.
#[must_use]
pub fn decide(quota: &ResourceQuota, used: &BTreeMap<String, usize>) -> Option<ResourceQuotaStatus> {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone());
    let told = used.iter().map(|(name, n)| (name.clone(), Quantity(n.to_string())));
    let status = ResourceQuotaStatus {
        hard,
        used: Some(told.collect()),
    };
    (quota.status.as_ref() != Some(&status)).then_some(status)
}

#[derive(Debug)]
struct Quotas {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.quotas.cache, &queue);
    let (quotas, pods) = (world.quotas.cache.clone(), world.pods.cache.clone());
    runner.controller(Quotas { world: world.clone() }, queue, 1, async move {
        quotas.synced().await;
        pods.synced().await;
    });
}

impl Reconciler for Quotas {
    const NAME: &'static str = "resourcequota-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(quota) = self.world.quotas.cache.get(key) else {
            return Ok(None);
        };
        let hard = quota.spec.iter().flat_map(|spec| spec.hard.iter().flatten());
        let names: Vec<&String> = hard.map(|(name, _)| name).collect();
        let known = catalogue(self.world.quotas.client()).await?;
        let mut used = BTreeMap::new();
        for name in names {
            if name == "pods" {
                let mut there = self.world.pods.cache.in_namespace(&key.namespace);
                there.retain(|pod| !pods::is_finished(pod));
                used.insert(name.clone(), there.len());
                continue;
            }
            let resource = counted(name)
                .and_then(|(plural, group)| known.iter().find(|r| r.api.plural == plural && r.api.group == group));
            if let Some(resource) = resource {
                used.insert(name.clone(), self.count(key, resource).await?);
            }
        }
        if let Some(status) = decide(&quota, &used) {
            let mut written = (*quota).clone();
            written.status = Some(status);
            self.world.quotas.replace_status(&written).await?;
        }
        Ok(Some(AGAIN))
    }
}

impl Quotas {
    async fn count(&self, key: &Key, resource: &Resource) -> Result<usize, Error> {
        let client = self.world.quotas.client().clone();
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::namespaced_with(client, &key.namespace, &resource.api);
        let listed = api.list_metadata(&ListParams::default()).await;
        let listed = listed.map_err(|source| Error::Api {
            action: "count",
            kind: resource.api.kind.clone(),
            key: key.clone(),
            source: Box::new(source),
        })?;
        Ok(listed.items.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn entries_name_kinds() {
        assert_eq!(counted("pods"), Some(("pods", "")));
        assert_eq!(counted("count/deployments.apps"), Some(("deployments", "apps")));
        assert_eq!(counted("count/secrets"), Some(("secrets", "")));
        assert_eq!(counted("requests.cpu"), None);
    }

    #[test]
    fn the_status_is_written_once() {
        let mut quota: ResourceQuota = serde_json::from_value(json!({"spec": {"hard": {"pods": "1"}}})).unwrap();
        let used = BTreeMap::from([("pods".to_owned(), 2)]);
        let status = decide(&quota, &used).unwrap();
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({"hard": {"pods": "1"}, "used": {"pods": "2"}})
        );
        quota.status = Some(status);
        assert_eq!(decide(&quota, &used), None);
    }
}
