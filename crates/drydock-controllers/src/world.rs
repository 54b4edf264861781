//! All that the controllers watch, in one place: one watch per kind, shared by every controller that reads it.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, ResourceQuota, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher;
use kube::{Client, Resource};

use crate::root_ca;
use crate::shell::{Cache, Key, Kind, Queue, Recorder, Runner};

/// Kinds with their caches, and the recorder of events.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // each field is the kind that it is named after
pub struct World {
    pub namespaces: Kind<Namespace>,
    pub nodes: Kind<Node>,
    /// Of all namespaces; those of nodes are in `kube-node-lease`.
    pub leases: Kind<Lease>,
    pub pods: Kind<Pod>,
    pub services: Kind<Service>,
    pub service_accounts: Kind<ServiceAccount>,
    /// Only those named `kube-root-ca.crt`.
    pub root_cas: Kind<ConfigMap>,
    pub slices: Kind<EndpointSlice>,
    pub endpoints: Kind<Endpoints>,
    pub deployments: Kind<Deployment>,
    pub replica_sets: Kind<ReplicaSet>,
    pub stateful_sets: Kind<StatefulSet>,
    pub daemon_sets: Kind<DaemonSet>,
    pub revisions: Kind<ControllerRevision>,
    pub jobs: Kind<Job>,
    pub cron_jobs: Kind<CronJob>,
    pub quotas: Kind<ResourceQuota>,
    pub budgets: Kind<PodDisruptionBudget>,
    pub autoscalers: Kind<HorizontalPodAutoscaler>,
    pub events: Recorder,
}

impl World {
    /// Empty caches on `client`.
    pub fn new(client: &Client, events: Recorder) -> Self {
        World {
            namespaces: Kind::cluster(client),
            nodes: Kind::cluster(client),
            leases: Kind::namespaced(client),
            pods: Kind::namespaced(client),
            services: Kind::namespaced(client),
            service_accounts: Kind::namespaced(client),
            root_cas: Kind::namespaced(client),
            slices: Kind::namespaced(client),
            endpoints: Kind::namespaced(client),
            deployments: Kind::namespaced(client),
            replica_sets: Kind::namespaced(client),
            stateful_sets: Kind::namespaced(client),
            daemon_sets: Kind::namespaced(client),
            revisions: Kind::namespaced(client),
            jobs: Kind::namespaced(client),
            cron_jobs: Kind::namespaced(client),
            quotas: Kind::namespaced(client),
            budgets: Kind::namespaced(client),
            autoscalers: Kind::namespaced(client),
            events,
        }
    }

    /// Starts all watches. Controllers subscribe before.
    pub fn watch(&self, runner: &mut Runner) {
        let all = watcher::Config::default;
        runner.spawn(self.namespaces.clone().watch(all()));
        runner.spawn(self.nodes.clone().watch(all()));
        runner.spawn(self.leases.clone().watch(all()));
        runner.spawn(self.pods.clone().watch(all()));
        runner.spawn(self.services.clone().watch(all()));
        runner.spawn(self.service_accounts.clone().watch(all()));
        runner.spawn(
            self.root_cas
                .clone()
                .watch(all().fields(&format!("metadata.name={}", root_ca::NAME))),
        );
        runner.spawn(self.slices.clone().watch(all()));
        runner.spawn(self.endpoints.clone().watch(all()));
        runner.spawn(self.deployments.clone().watch(all()));
        runner.spawn(self.replica_sets.clone().watch(all()));
        runner.spawn(self.stateful_sets.clone().watch(all()));
        runner.spawn(self.daemon_sets.clone().watch(all()));
        runner.spawn(self.revisions.clone().watch(all()));
        runner.spawn(self.jobs.clone().watch(all()));
        runner.spawn(self.cron_jobs.clone().watch(all()));
        runner.spawn(self.quotas.clone().watch(all()));
        runner.spawn(self.budgets.clone().watch(all()));
        runner.spawn(self.autoscalers.clone().watch(all()));
    }
}

/// Queues an object whenever it changes.
pub fn on_change<K>(cache: &Cache<K>, queue: &Arc<Queue>)
where
    K: Resource + 'static,
{
    let queue = queue.clone();
    cache.subscribe(move |change| {
        if let Some(object) = change.new.as_ref().or(change.old.as_ref()) {
            queue.add(Key::of(object.meta()));
        }
    });
}

/// Queues the controller of an object whenever the object changes, or, when it has none, what `claimants` names.
pub fn on_owned_change<K>(
    cache: &Cache<K>,
    queue: &Arc<Queue>,
    owner_kind: &'static str,
    claimants: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static,
) where
    K: Resource + 'static,
{
    let queue = queue.clone();
    cache.subscribe(move |change| {
        for object in change.old.iter().chain(&change.new) {
            match crate::meta::controller_of(object.meta()) {
                Some(owner) if owner.kind == owner_kind => {
                    queue.add(Key::new(
                        object.meta().namespace.clone().unwrap_or_default(),
                        owner.name.clone(),
                    ));
                }
                Some(_) => {}
                None => claimants(object).into_iter().for_each(|key| queue.add(key)),
            }
        }
    });
}
