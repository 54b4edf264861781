//! The life of one pod.

mod adopt;
mod backoff;

mod env;
mod fields;
mod files;
mod hooks;
mod lifecycle;
mod plan;
mod quantity;
mod report;
mod sandbox;
mod security;
mod site;
mod start;
mod status;
mod unit;
mod worker;

pub(crate) use fields::{Addresses as FieldAddresses, field};
pub(crate) use quantity::{milli, resource};
pub(crate) use sandbox::Sandbox;
pub(crate) use site::Site;
pub(crate) use worker::{Handle, Message, View, spawn};

use k8s_openapi::api::core::v1::{Container, Pod};

/// The identity of a pod, borrowed.
pub(crate) fn key(pod: &Pod) -> (&str, &str, &str) {
    let meta = &pod.metadata;
    (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
    )
}

/// Init containers, then the others: the order in which the node looks at them.
pub(crate) fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
}
