//! The wiring of the node: what is started, in which order, and what is taken down.

mod events;
mod network;
mod objects;
mod patience;
mod pods;
mod register;
mod teardown;

pub use teardown::teardown;

use crate::config::NodeConfig;
use crate::error::{Error, Result};
use crate::image::ImageStore;
use crate::net::{self, Addresses};
use crate::pod::Handle;
use crate::runtime::Runtime;
use crate::server;
use events::Events;
use objects::Objects;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Everything that the node's parts share.
pub(crate) struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) client: kube::Client,
    pub(crate) runtime: Runtime,
    pub(crate) shim: Vec<String>,
    pub(crate) images: ImageStore,
    pub(crate) addresses: Addresses,
    pub(crate) objects: Objects,
    pub(crate) events: Events,
    /// CPUs and memory (bytes).
    pub(crate) capacity: (i128, i128),
    pods: Mutex<Pods>,
}

/// The node's pods by uid.
#[derive(Default)]
struct Pods {
    workers: BTreeMap<String, Arc<Handle>>,
    /// Nothing of these is left here, but somebody's finalizer keeps the object.
    done: BTreeSet<String>,
}

impl Node {
    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker of a pod by uid.
    fn worker(&self, uid: &str) -> Option<Arc<Handle>> {
        self.pods().workers.get(uid).cloned()
    }

    /// All workers.
    pub(crate) fn workers(&self) -> Vec<Arc<Handle>> {
        self.pods().workers.values().cloned().collect()
    }

    /// A worker is done: nothing of its pod is left on this node.
    pub(crate) fn forget(&self, uid: &str) {
        let mut pods = self.pods();
        pods.workers.remove(uid);
        pods.done.insert(uid.to_string());
    }
}

/// Runs a node until an error that it cannot get over; dropping the future leaves containers running, for the next
/// process to take over.
///
/// # Errors
/// If the machine cannot run pods (no root, no runtime, no nftables), or the node's port cannot be opened.
pub async fn run(client: kube::Client, config: NodeConfig) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Network("running pods needs root: start again with sudo".into()));
    }
    folders(&config)?;
    net::host_up(&config).await?;
    net::allow(&config).await;
    let (objects, feeds) = Objects::new(client.clone());
    let (events, event_task) = Events::new(client.clone(), config.name.clone());
    let node = Arc::new(Node {
        runtime: Runtime {
            program: config.runtime()?,
            root: config.run_dir().join("runtime"),
        },
        shim: config.shim()?,
        images: ImageStore::open(&config.image_dir())?,
        addresses: Addresses::new(config.pod_cidr),
        objects,
        events,
        capacity: register::capacity(),
        pods: Mutex::default(),
        client,
        config,
    });
    pods::reserve_addresses(&node);
    let (port, serving) = server::bind(node.clone()).await?;
    let networking = network::start(node.clone()).await?;
    tracing::info!(node = node.config.name, address = %node.config.node_ip(), port, "node runs");
    tokio::select! {
        () = event_task => {}
        () = feeds.run(node.clone()) => {}
        () = networking => {}
        () = serving => {}
        () = register::keep(node.clone(), port) => {}
        () = pods::watch(node.clone()) => {}
    }
    Err(Error::Network("a part of the node ended".into()))
}

/// Secrets of pods are in the folders of containers and volumes, and whoever can write to a shim's socket is inside its
/// container: nobody but root gets that far, whatever the mode of a single file says. (What a container sees of its
/// volumes is mounted, and does not depend on the folders above.)
fn folders(config: &NodeConfig) -> Result<()> {
    for dir in ["shim", "netns", "runtime"].map(|name| config.run_dir().join(name)) {
        std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    }
    let pods = config.pods_dir();
    std::fs::create_dir_all(&pods).map_err(Error::io("create", &pods))?;
    for dir in [config.node_dir(), pods, config.run_dir()] {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&dir, private).map_err(Error::io("change mode of", &dir))?;
    }
    Ok(())
}
