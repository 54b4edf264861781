//! The mesh: events in, immutable snapshots out.
//!
//! [`Mesh`] takes objects as they appear, change and go, and keeps what follows from them: services, whatever
//! defines them, and their endpoints. Each batch of events gives an [`Update`]: a [`Snapshot`] that is the same for
//! any order of events, and the set of [`Input`]s that differ from the one before. Nothing here knows Envoy or a
//! Kubernetes client.

mod derive;
mod headless;
mod key;
mod object;
mod protocol;
mod service;
mod shelf;
mod snapshot;
mod store;
mod visibility;

pub use key::{Input, Key, Kind, ServiceKey};
pub use object::{
    Config, ConfigMap, ContainerPort, EndpointSlice, Meta, Namespace, Node, Object, ObjectError, Pod, Secret,
    SliceEndpoint, SlicePort, TargetPort,
};
pub use protocol::Protocol;
pub use service::{Address, Endpoint, Endpoints, Health, Locality, Port, Registry, Resolution, Service, Workload};
pub use shelf::Shelf;
pub use snapshot::{SecretReader, Snapshot};
pub use store::{Event, Mesh, Update};
pub use visibility::Visibility;
