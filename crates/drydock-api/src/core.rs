//! Shared state of the server: configuration, store, resources.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use drydock_store::Store;
use http_body_util::combinators::BoxBody;
use ipnet::Ipv4Net;
use serde_json::Value;

use crate::{kinds::Ranges, objects::Objects, resource::Registry};

/// A response body: whole or streamed.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// How to run the server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of the store and the cluster's keys.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Addresses of Services; the first is `kubernetes.default`.
    pub service_cidr: Ipv4Net,
    /// Address of this server in the cluster's `kubernetes` Endpoints; the bound one if `None`.
    pub advertise: Option<Ipv4Addr>,
    /// Host names and addresses the serving certificate is also valid for.
    pub extra_names: Vec<String>,
}

impl Config {
    /// A server on a free loopback port with Services in 10.96.0.0/16.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            service_cidr: Ipv4Net::new_assert([10, 96, 0, 0].into(), 16),
            advertise: None,
            extra_names: Vec::new(),
        }
    }
}

/// What every part of the server may use.
#[derive(Debug)]
pub struct Core {
    /// Configuration.
    pub config: Config,
    /// All objects.
    pub store: Store,
    /// All resources.
    pub registry: Registry,
    /// Cluster addresses and node ports.
    pub ranges: Ranges,
}

impl Core {
    /// Opens the store and registers the built-in resources.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub fn open(config: Config) -> Result<Self, drydock_store::Error> {
        let store = Store::open(&config.data_dir)?;
        let registry = Registry::default();
        crate::kinds::register(&registry);
        let ranges = Ranges::new(config.service_cidr);
        for service in store.list("/services/").items {
            ranges.adopt(&service.value);
        }
        Ok(Self {
            config,
            store,
            registry,
            ranges,
        })
    }
}

impl Objects for Core {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let resource = self.registry.any_version(group, resource)?;
        self.store
            .get(&resource.key(namespace, name))
            .map(|stored| stored.value)
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let Some(resource) = self.registry.any_version(group, resource) else {
            return Vec::new();
        };
        self.store
            .list(&resource.prefix(namespace))
            .items
            .into_iter()
            .map(|stored| stored.value)
            .collect()
    }
}
