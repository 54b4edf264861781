//! Objects of the API server that the node reads: kept up to date by watches, asked for directly while a watch is behind.

use super::Node;
use super::patience::Patience;
use super::pods::refresh;
use crate::error::Result;
use crate::volumes::Sources;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::Notify;

/// Readers of the node's watches.
pub(crate) struct Objects {
    client: kube::Client,
    config_maps: Store<ConfigMap>,
    secrets: Store<Secret>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    /// Told when services or endpoints changed.
    pub(super) network: Arc<Notify>,
}

/// The writing side: the watches themselves.
pub(super) struct Feeds {
    client: kube::Client,
    config_maps: reflector::store::Writer<ConfigMap>,
    secrets: reflector::store::Writer<Secret>,
    services: reflector::store::Writer<Service>,
    slices: reflector::store::Writer<EndpointSlice>,
    network: Arc<Notify>,
}

impl Objects {
    pub(super) fn new(client: kube::Client) -> (Self, Feeds) {
        let network = Arc::new(Notify::new());
        let (maps_r, maps_w) = reflector::store();
        let (secrets_r, secrets_w) = reflector::store();
        let (services_r, services_w) = reflector::store();
        let (slices_r, slices_w) = reflector::store();
        let objects = Self {
            client: client.clone(),
            config_maps: maps_r,
            secrets: secrets_r,
            services: services_r,
            slices: slices_r,
            network: network.clone(),
        };
        (
            objects,
            Feeds {
                client,
                config_maps: maps_w,
                secrets: secrets_w,
                services: services_w,
                slices: slices_w,
                network,
            },
        )
    }

    pub(crate) fn services(&self) -> Vec<Arc<Service>> {
        self.services.state()
    }

    pub(super) fn slices(&self) -> Vec<Arc<EndpointSlice>> {
        self.slices.state()
    }

    /// ClusterIP of the cluster's DNS service, if there is one.
    pub(crate) fn dns_ip(&self) -> Option<String> {
        let service = self.services.get(&ObjectRef::new("kube-dns").within("kube-system"))?;
        service.spec.as_ref()?.cluster_ip.clone().filter(|ip| ip != "None")
    }

    /// Services and endpoints have been listed once: rules made before would reject what is there.
    pub(super) async fn network_known(&self) {
        let _ = tokio::join!(self.services.wait_until_ready(), self.slices.wait_until_ready());
    }

    async fn get<K>(&self, store: &Store<K>, namespace: &str, name: &str) -> Result<Option<Arc<K>>>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        if let Some(found) = store.get(&ObjectRef::new(name).within(namespace)) {
            return Ok(Some(found));
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await?.map(Arc::new))
    }
}

#[async_trait::async_trait]
impl Sources for Objects {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>> {
        self.get(&self.config_maps, namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>> {
        self.get(&self.secrets, namespace, name).await
    }
}

impl Feeds {
    /// Watches until the end of the process.
    pub(super) async fn run(self, node: Arc<Node>) {
        let Self {
            client,
            config_maps,
            secrets,
            services,
            slices,
            network,
        } = self;
        let touched = |namespace: Option<&str>, name: Option<&str>| {
            refresh(&node, namespace.unwrap_or_default(), name.unwrap_or_default())
        };
        tokio::join!(
            feed(&client, config_maps, |o: &ConfigMap| touched(
                o.metadata.namespace.as_deref(),
                o.metadata.name.as_deref()
            )),
            feed(&client, secrets, |o: &Secret| touched(
                o.metadata.namespace.as_deref(),
                o.metadata.name.as_deref()
            )),
            feed(&client, services, |_: &Service| network.notify_one()),
            feed(&client, slices, |_: &EndpointSlice| network.notify_one()),
        );
    }
}

async fn feed<K>(client: &kube::Client, writer: reflector::store::Writer<K>, changed: impl Fn(&K))
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq,
{
    let stream = watch(Api::<K>::all(client.clone()), watcher::Config::default()).backoff(Patience::default());
    let stream = reflector::reflector(writer, stream);
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(object) | Event::Delete(object) | Event::InitApply(object)) => changed(&object),
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => tracing::debug!(kind = %K::kind(&()), %error, "watch interrupted"),
        }
    }
}
