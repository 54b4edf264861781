//! One kind of object: its cache, and the writes, each of which goes through the cache.

use std::fmt::Debug;
use std::sync::Arc;

use either::Either;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Cache, Key};
use crate::Error;

/// See the module's text.
pub struct Kind<K> {
    client: Client,
    /// The local copy.
    pub cache: Arc<Cache<K>>,
    api: fn(&Client, &str) -> Api<K>,
    all: fn(&Client) -> Api<K>,
}

impl<K> Clone for Kind<K> {
    fn clone(&self) -> Self {
        Kind {
            client: self.client.clone(),
            cache: self.cache.clone(),
            api: self.api,
            all: self.all,
        }
    }
}

impl<K> Debug for Kind<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kind")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl<K> Kind<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static,
{
    /// A namespaced kind.
    pub fn namespaced(client: &Client) -> Self
    where
        K: Resource<Scope = NamespaceResourceScope>,
    {
        Kind {
            client: client.clone(),
            cache: Arc::default(),
            api: |client, namespace| Api::namespaced(client.clone(), namespace),
            all: |client| Api::all(client.clone()),
        }
    }

    /// A cluster-scoped kind.
    pub fn cluster(client: &Client) -> Self
    where
        K: Resource<Scope = ClusterResourceScope>,
    {
        let all: fn(&Client) -> Api<K> = |client| Api::all(client.clone());
        Kind {
            client: client.clone(),
            cache: Arc::default(),
            api: |client, _| Api::all(client.clone()),
            all,
        }
    }

    /// The plain API of one namespace (any, for a cluster-scoped kind), for what has no place in a cache.
    pub fn api(&self, namespace: &str) -> Api<K> {
        (self.api)(&self.client, namespace)
    }

    /// The client behind it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Feeds the cache. Never returns; a broken watch is started again with back-off.
    pub async fn watch(self, config: watcher::Config) {
        let mut events = watcher((self.all)(&self.client), config).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.cache.observe(event),
                Err(error) => tracing::debug!(kind = %K::kind(&()), %error, "watch interrupted"),
            }
        }
    }

    fn failed(action: &'static str, meta: &ObjectMeta) -> impl FnOnce(kube::Error) -> Error + use<K> {
        let mut key = Key::of(meta);
        if key.name.is_empty() {
            key.name = meta.generate_name.clone().unwrap_or_default();
        }
        move |source| Error::Api {
            action,
            kind: K::kind(&()).into_owned(),
            key,
            source: Box::new(source),
        }
    }

    fn api_of(&self, meta: &ObjectMeta) -> Api<K> {
        self.api(meta.namespace.as_deref().unwrap_or_default())
    }

    /// Creates an object, and answers with what the server made of it.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn create(&self, object: &K) -> Result<K, Error> {
        let meta = object.meta();
        let made = self
            .api_of(meta)
            .create(&PostParams::default(), object)
            .await
            .map_err(Self::failed("create", meta))?;
        self.cache.wrote(made.clone());
        Ok(made)
    }

    /// Replaces an object, but not its status. Fails with a conflict when it is not the version that was read.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn replace(&self, object: &K) -> Result<K, Error> {
        let meta = object.meta();
        let name = meta.name.as_deref().unwrap_or_default();
        let made = self
            .api_of(meta)
            .replace(name, &PostParams::default(), object)
            .await
            .map_err(Self::failed("update", meta))?;
        self.cache.wrote(made.clone());
        Ok(made)
    }

    /// Replaces the status of an object. Fails with a conflict when it is not the version that was read.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn replace_status(&self, object: &K) -> Result<K, Error> {
        let meta = object.meta();
        let name = meta.name.as_deref().unwrap_or_default();
        let made = self
            .api_of(meta)
            .replace_status(name, &PostParams::default(), object)
            .await
            .map_err(Self::failed("update the status of", meta))?;
        self.cache.wrote(made.clone());
        Ok(made)
    }

    /// Deletes exactly this object (not a later one of the same name) in the background manner. Gone already is fine.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn delete(&self, meta: &ObjectMeta) -> Result<(), Error> {
        self.delete_with(meta, DeleteParams::background()).await
    }

    /// Like [`Kind::delete`], without waiting for the grace period: for pods that nobody will end.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn delete_now(&self, meta: &ObjectMeta) -> Result<(), Error> {
        self.delete_with(meta, DeleteParams::background().grace_period(0)).await
    }

    async fn delete_with(&self, meta: &ObjectMeta, mut params: DeleteParams) -> Result<(), Error> {
        params.preconditions = meta.uid.clone().map(|uid| Preconditions {
            uid: Some(uid),
            resource_version: None,
        });
        let name = meta.name.as_deref().unwrap_or_default();
        match self
            .api_of(meta)
            .delete(name, &params)
            .await
            .map_err(Self::failed("delete", meta))
        {
            Ok(Either::Left(object)) => {
                // Still there with a deletion time (a pod that ends in its grace period), or its last state.
                if object.meta().deletion_timestamp.is_some() {
                    self.cache.wrote(object);
                }
                Ok(())
            }
            Ok(Either::Right(_)) => {
                self.cache.removed(meta);
                Ok(())
            }
            Err(error) if error.is_not_found() => {
                self.cache.removed(meta);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
