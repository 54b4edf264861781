//! The shell of the endpoints controller.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};

use super::slices::{Action, decide, is_ours, service_of};
use super::{legacy, mirror};
use crate::shell::{Cache, Key, Queue, Reconciler, Requeue, Runner};
use crate::world::{World, on_change};
use crate::{Error, meta, selector};

/// See the module's text.
#[derive(Debug)]
pub struct EndpointController {
    world: World,
}

fn selecting(services: &Cache<Service>, pod: &Pod) -> Vec<Key> {
    let all = services.in_namespace(meta::namespace(&pod.metadata));
    let selecting = all.iter().filter(|service| {
        let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector::map_matches(wanted, pod.metadata.labels.as_ref())
    });
    selecting.map(|service| Key::of(&service.metadata)).collect()
}

/// Starts the controller.
pub fn start(world: &World, runner: &mut Runner) {
    let queue = Arc::new(Queue::default());
    on_change(&world.services.cache, &queue);
    let (services, again) = (world.services.cache.clone(), queue.clone());
    world.pods.cache.subscribe(move |change| {
        for pod in change.old.iter().chain(&change.new) {
            selecting(&services, pod).into_iter().for_each(|key| again.add(key));
        }
    });
    for_slices_and_endpoints(world, &queue);
    let caches = (
        world.services.cache.clone(),
        world.pods.cache.clone(),
        world.slices.cache.clone(),
        world.endpoints.cache.clone(),
    );
    let ready = async move {
        caches.0.synced().await;
        caches.1.synced().await;
        caches.2.synced().await;
        caches.3.synced().await;
    };
    runner.controller(EndpointController { world: world.clone() }, queue, 2, ready);
}

/// Somebody else's edit of what we made is put right.
fn for_slices_and_endpoints(world: &World, queue: &Arc<Queue>) {
    let again = queue.clone();
    world.slices.cache.subscribe(move |change| {
        for slice in change.old.iter().chain(&change.new).filter(|slice| is_ours(slice)) {
            if let Some(service) = service_of(slice) {
                again.add(Key::new(meta::namespace(&slice.metadata), service));
            }
        }
    });
    on_change(&world.endpoints.cache, queue);
}

impl EndpointController {
    async fn mirror(&self, key: &Key) -> Result<Requeue, Error> {
        let world = &self.world;
        let mut existing = world.slices.cache.in_namespace(&key.namespace);
        existing.retain(|slice| mirror::is_ours(slice) && service_of(slice) == Some(&key.name));
        let endpoints = world.endpoints.cache.get(key);
        self.write(mirror::decide(endpoints.as_deref(), &existing)).await?;
        Ok(None)
    }

    async fn write(&self, actions: Vec<Action>) -> Result<(), Error> {
        for action in actions {
            match action {
                Action::Create(slice) => self.world.slices.create(&slice).await.map(drop)?,
                Action::Update(slice) => self.world.slices.replace(&slice).await.map(drop)?,
                Action::Delete(slice) => self.world.slices.delete(&slice.metadata).await?,
            }
        }
        Ok(())
    }
}

impl Reconciler for EndpointController {
    const NAME: &'static str = "endpoint-slice-controller";

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let world = &self.world;
        let Some(service) = world.services.cache.get(key) else {
            // Endpoints have no owner; they go with the Service of their name.
            if let Some(endpoints) = world.endpoints.cache.get(key)
                && legacy::is_ours(&endpoints)
            {
                world.endpoints.delete(&endpoints.metadata).await?;
            }
            return Ok(None);
        };
        let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        if wanted.is_none_or(std::collections::BTreeMap::is_empty) {
            // Whoever made the Service looks after its Endpoints; those are told in slices as well.
            return self.mirror(key).await;
        }
        let pods = world.pods.cache.in_namespace(&key.namespace);
        let selected = pods
            .iter()
            .filter(|pod| selector::map_matches(wanted, pod.metadata.labels.as_ref()));
        let selected: Vec<&Pod> = selected.map(|pod| &**pod).collect();

        let mut existing = world.slices.cache.in_namespace(&key.namespace);
        existing.retain(|slice| is_ours(slice) && service_of(slice) == Some(&key.name));
        self.write(decide(&service, &selected, &existing)).await?;
        let existing = world.endpoints.cache.get(key);
        if meta::is_terminating(&service.metadata) {
            return Ok(None);
        }
        if let Some(endpoints) = legacy::decide(&service, &selected, existing.as_deref()) {
            match existing {
                Some(_) => world.endpoints.replace(&endpoints).await?,
                None => world.endpoints.create(&endpoints).await?,
            };
        }
        Ok(None)
    }
}
