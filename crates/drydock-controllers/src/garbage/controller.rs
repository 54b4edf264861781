//! The shell of the garbage collector: a metadata watch per resource feeds the graph, workers carry out what it asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::core::discovery::verbs;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinHandle;

use super::graph::{Action, Graph, Object, Place};
use crate::Error;
use crate::shell::{Key, Queue, Reconciler, Requeue, Resource, Runner, catalogue};

/// New custom resources are looked for this often.
const REDISCOVER: Duration = Duration::from_secs(10);

/// Resources without owners that change all the time.
const IGNORED: [&str; 2] = ["events", "leases"];

struct Collector {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    resources: Arc<RwLock<BTreeMap<(String, String), Resource>>>,
}

fn locked(graph: &Mutex<Graph>) -> MutexGuard<'_, Graph> {
    graph.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Starts the garbage collector.
pub fn start(client: &Client, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    let graph = Arc::new(Mutex::new(Graph::default()));
    let resources = Arc::new(RwLock::new(BTreeMap::new()));
    runner.spawn(follow(client.clone(), graph.clone(), resources.clone(), queue.clone()));
    let collector = Collector {
        client: client.clone(),
        graph,
        resources,
    };
    runner.controller(collector, queue, 4, std::future::ready(()));
}

/// Keeps one watch for each resource that the server has.
async fn follow(
    client: Client,
    graph: Arc<Mutex<Graph>>,
    resources: Arc<RwLock<BTreeMap<(String, String), Resource>>>,
    queue: Arc<Queue>,
) {
    let mut watches: BTreeMap<(String, String), JoinHandle<()>> = BTreeMap::new();
    loop {
        match catalogue(&client).await {
            Err(error) => tracing::debug!(%error, "garbage collector waits for discovery"),
            Ok(found) => {
                let found = found.into_iter().filter(|resource| {
                    resource.supports(verbs::WATCH) && !IGNORED.contains(&resource.api.plural.as_str())
                });
                let found: BTreeMap<_, _> = found
                    .map(|r| ((r.api.api_version.clone(), r.api.kind.clone()), r))
                    .collect();
                watches.retain(|id, task| {
                    let keep = found.contains_key(id);
                    if !keep {
                        task.abort();
                        forget(&graph, id, &BTreeSet::new(), &queue);
                    }
                    keep
                });
                for (id, resource) in &found {
                    watches.entry(id.clone()).or_insert_with(|| {
                        let watch = watch(client.clone(), resource.api.clone(), graph.clone(), queue.clone());
                        tokio::spawn(watch)
                    });
                }
                *resources.write().unwrap_or_else(std::sync::PoisonError::into_inner) = found;
            }
        }
        tokio::time::sleep(REDISCOVER).await;
    }
}

/// Removes all objects of a kind but those that are listed.
fn forget(graph: &Mutex<Graph>, id: &(String, String), listed: &BTreeSet<String>, queue: &Queue) {
    let mut graph = locked(graph);
    let gone: Vec<_> = graph
        .of_kind(&id.0, &id.1)
        .into_iter()
        .filter(|uid| !listed.contains(uid))
        .collect();
    for uid in gone {
        graph
            .remove(&uid)
            .into_iter()
            .for_each(|uid| queue.add(Key::new("", uid)));
    }
}

async fn watch(client: Client, api: ApiResource, graph: Arc<Mutex<Graph>>, queue: Arc<Queue>) {
    let id = (api.api_version.clone(), api.kind.clone());
    let objects: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &api);
    let mut events = watcher(objects, watcher::Config::default()).default_backoff().boxed();
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        let affected = match event {
            Err(error) => {
                tracing::debug!(kind = api.kind, %error, "watch interrupted");
                continue;
            }
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitDone) => {
                forget(&graph, &id, &listed, &queue);
                continue;
            }
            Ok(Event::Delete(object)) => locked(&graph).remove(object.metadata.uid.as_deref().unwrap_or_default()),
            Ok(Event::InitApply(object)) => {
                listed.extend(object.metadata.uid.clone());
                locked(&graph).apply(Object::new(&api.api_version, &api.kind, &object.metadata))
            }
            Ok(Event::Apply(object)) => {
                locked(&graph).apply(Object::new(&api.api_version, &api.kind, &object.metadata))
            }
        };
        affected.into_iter().for_each(|uid| queue.add(Key::new("", uid)));
    }
}

impl Reconciler for Collector {
    const NAME: &'static str = "garbage-collector";

    /// The key's name is a uid.
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let uid = &key.name;
        let (object, actions) = {
            let graph = locked(&self.graph);
            let Some(object) = graph.get(uid) else { return Ok(None) };
            (object.clone(), graph.decide(uid))
        };
        for action in actions {
            let done = match action {
                Action::LookUp(owner) => {
                    if self.exists(&object.place, &owner).await? {
                        // The watch of its kind will bring it, or has not begun; both end in another round.
                        return Ok(Some(Duration::from_secs(2)));
                    }
                    locked(&self.graph).absent(&owner.uid);
                    return Ok(Some(Duration::ZERO));
                }
                Action::Delete { foreground } => self.delete(&object, foreground).await,
                Action::RemoveOwners(uids) => self.remove_owners(&object.place, &uids).await,
                Action::RemoveFinalizer(name) => self.remove_finalizer(&object.place, name).await,
                Action::Orphan(dependants) => self.orphan(uid, dependants).await,
            };
            match done {
                Err(error) if error.is_not_found() => {}
                done => done?,
            }
        }
        Ok(None)
    }
}

impl Collector {
    /// The API of an object's kind; `None` when the server does not have that kind (any more).
    fn api(&self, place: &Place) -> Option<Api<DynamicObject>> {
        let resources = self.resources.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let exact = resources.get(&(place.api_version.clone(), place.kind.clone()));
        // A reference may name an older version of the same group.
        let group = |version: &str| version.split_once('/').map(|(group, _)| group.to_owned());
        let resource = exact.or_else(|| {
            let same =
                |r: &&Resource| r.api.kind == place.kind && group(&r.api.api_version) == group(&place.api_version);
            resources.values().find(same)
        })?;
        Some(match resource.namespaced {
            true => Api::namespaced_with(self.client.clone(), &place.namespace, &resource.api),
            false => Api::all_with(self.client.clone(), &resource.api),
        })
    }

    async fn exists(&self, dependant: &Place, owner: &OwnerReference) -> Result<bool, Error> {
        let place = Place {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: dependant.namespace.clone(),
            name: owner.name.clone(),
        };
        // An unknown kind may be one that discovery has not seen yet: nothing is deleted for that.
        let Some(api) = self.api(&place) else { return Ok(true) };
        let found = api
            .get_metadata_opt(&owner.name)
            .await
            .map_err(failed("read", &place))?;
        Ok(found.is_some_and(|found| found.metadata.uid.as_deref() == Some(&owner.uid)))
    }

    async fn delete(&self, object: &Object, foreground: bool) -> Result<(), Error> {
        let Some(api) = self.api(&object.place) else {
            return Ok(());
        };
        let policy = if foreground {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(object.uid.clone()),
                resource_version: None,
            }),
            ..Default::default()
        };
        api.delete(&object.place.name, &params)
            .await
            .map(drop)
            .map_err(failed("delete", &object.place))
    }

    async fn remove_owners(&self, place: &Place, uids: &BTreeSet<String>) -> Result<(), Error> {
        let Some(api) = self.api(place) else { return Ok(()) };
        let current = api.get_metadata(&place.name).await.map_err(failed("read", place))?;
        let mut owners = current.metadata.owner_references.unwrap_or_default();
        owners.retain(|owner| !uids.contains(&owner.uid));
        let change = json!({ "metadata": {
            "ownerReferences": owners, "resourceVersion": current.metadata.resource_version,
        }});
        self.patch(&api, place, &change).await
    }

    async fn remove_finalizer(&self, place: &Place, name: &str) -> Result<(), Error> {
        let Some(api) = self.api(place) else { return Ok(()) };
        let current = api.get_metadata(&place.name).await.map_err(failed("read", place))?;
        let mut finalizers = current.metadata.finalizers.unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != name);
        let change = json!({ "metadata": {
            "finalizers": finalizers, "resourceVersion": current.metadata.resource_version,
        }});
        self.patch(&api, place, &change).await
    }

    async fn patch(&self, api: &Api<DynamicObject>, place: &Place, change: &serde_json::Value) -> Result<(), Error> {
        let patched = api
            .patch(&place.name, &PatchParams::default(), &Patch::Merge(change))
            .await;
        patched.map(drop).map_err(failed("update", place))
    }

    async fn orphan(&self, owner: &str, dependants: Vec<String>) -> Result<(), Error> {
        let uids = BTreeSet::from([owner.to_owned()]);
        for uid in dependants {
            let place = locked(&self.graph).get(&uid).map(|object| object.place.clone());
            if let Some(place) = place {
                match self.remove_owners(&place, &uids).await {
                    Err(error) if error.is_not_found() => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }
}

fn failed(action: &'static str, place: &Place) -> impl FnOnce(kube::Error) -> Error {
    let (kind, key) = (place.kind.clone(), Key::new(&place.namespace, &place.name));
    move |source| Error::Api {
        action,
        kind,
        key,
        source: Box::new(source),
    }
}
