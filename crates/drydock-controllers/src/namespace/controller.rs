//! The shell of namespace deletion.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::discovery::verbs;

use super::{Findings, Step, decide, is_ours};
use crate::Error;
use crate::shell::{Key, Queue, Reconciler, Requeue, Resource, Runner, catalogue};
use crate::world::{World, on_change};

/// Resources that are swept at the same time.
const AT_A_TIME: usize = 8;

/// Between two sweeps, when no pod ended meanwhile.
const NEXT_SWEEP: Duration = Duration::from_millis(500);

/// See the module's text.
#[derive(Debug)]
pub struct NamespaceDeletion {
    world: World,
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.namespaces.cache, &queue);
    let ready = world.namespaces.cache.clone();
    runner.controller(NamespaceDeletion { world: world.clone() }, queue, 4, async move {
        ready.synced().await
    });
}

impl Reconciler for NamespaceDeletion {
    const NAME: &'static str = "namespace-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(namespace) = self.world.namespaces.cache.get(key) else {
            return Ok(None);
        };
        if !is_ours(&namespace) {
            return Ok(None);
        }
        let findings = self.sweep(&key.name).await?;
        match decide(&namespace, &findings, Timestamp::now()) {
            Step::Nothing => Ok(None),
            Step::Wait(conditions) => {
                if let Some(conditions) = conditions {
                    let mut written = (*namespace).clone();
                    written.status.get_or_insert_default().conditions = Some(conditions);
                    self.world.namespaces.replace_status(&written).await?;
                }
                Ok(Some(NEXT_SWEEP))
            }
            Step::Finalize(done) => self.finalize(&done).await.map(|()| None),
        }
    }
}

impl NamespaceDeletion {
    /// Deletes what is in the namespace, and tells what is still there.
    async fn sweep(&self, namespace: &str) -> Result<Findings, Error> {
        let client = self.world.namespaces.client();
        let resources = catalogue(client)
            .await?
            .into_iter()
            .filter(|resource| resource.namespaced);
        let sweeps = futures::stream::iter(resources).map(|resource| async move {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource.api);
            match clear(&api, &resource).await {
                // Its definition was removed since discovery, and all its objects with it.
                Err(kube::Error::Api(status)) if status.code == 404 => Findings::default(),
                Err(error) => {
                    let failure = format!("{}: {error}", resource.name());
                    Findings {
                        failures: vec![failure],
                        ..Default::default()
                    }
                }
                Ok(findings) => findings,
            }
        });
        let sweeps = sweeps.buffered(AT_A_TIME).collect::<Vec<_>>().await;
        Ok(sweeps.into_iter().fold(Findings::default(), Findings::and))
    }

    async fn finalize(&self, done: &Namespace) -> Result<(), Error> {
        let name = done.metadata.name.as_deref().unwrap_or_default();
        let api = self.world.namespaces.api("");
        match api
            .replace_subresource("finalize", name, &PostParams::default(), done)
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(Error::Api {
                action: "finalize",
                kind: "Namespace".into(),
                key: Key::new("", name),
                source: Box::new(source),
            }),
        }
    }
}

async fn clear(api: &Api<DynamicObject>, resource: &Resource) -> Result<Findings, kube::Error> {
    let mut findings = Findings::default();
    let there = api.list_metadata(&ListParams::default()).await?;
    if there.items.is_empty() {
        return Ok(findings);
    }
    let background = DeleteParams::background();
    // Those that are being deleted already only have to be waited for.
    if there
        .items
        .iter()
        .any(|object| object.metadata.deletion_timestamp.is_none())
    {
        if resource.supports(verbs::DELETE_COLLECTION) {
            api.delete_collection(&background, &ListParams::default()).await?;
        } else {
            for object in &there.items {
                match api
                    .delete(object.metadata.name.as_deref().unwrap_or_default(), &background)
                    .await
                {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    done => drop(done?),
                }
            }
        }
    }
    let left = api.list_metadata(&ListParams::default()).await?;
    if !left.items.is_empty() {
        findings.remaining.insert(resource.name(), left.items.len());
    }
    for finalizer in left
        .items
        .iter()
        .flat_map(|object| object.metadata.finalizers.iter().flatten())
    {
        *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    Ok(findings)
}
