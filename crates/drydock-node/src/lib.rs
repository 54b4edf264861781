//! The node of drydock: an ordinary Kubernetes node agent that runs pods as OCI containers through `runc` or `crun`.
//!
//! It talks to the API server like any client, so the same code serves `drydock up` and `drydock node --kubeconfig F`
//! against a real API server. The rooms, from the outside in:
//!
//! - [`config`]: what a node needs to know, and the names it derives (interfaces, tables, folders)
//! - `agent`: wiring; watches in, one `pod` worker each, services, DNS and the kubelet server beside them
//! - `pod`: the life of one pod: what to do next (pure), what its status is (pure), and the worker that does it
//! - `probe`: startup, readiness and liveness checks
//! - `beneath`: paths inside folders that others write to; `mounts`: what is mounted below a folder, and its end
//! - `volumes`: emptyDir, configMap, secret, projected, downwardAPI, hostPath
//! - `runtime`: OCI bundle of a container (pure), `runc`, and the [`shim`] that outlives the node process
//! - [`image`]: local image store
//! - `net`: network namespaces, addresses
//! - `services`: ClusterIP, NodePort and LoadBalancer as one nftables table
//! - `dns`: the cluster's zone
//! - `server`: the kubelet's HTTPS port: logs, exec, attach, port-forward

mod agent;
mod beneath;
pub mod config;
mod dns;
mod error;
pub mod image;
mod mounts;
mod net;
mod pod;
mod probe;
mod runtime;
mod server;
mod services;
mod volumes;

pub use agent::{run, teardown};
pub use config::{NodeConfig, Serving};
pub use error::Error;
pub use runtime::shim;
