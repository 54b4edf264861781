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

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

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

/// [`all_containers`], then those that somebody added to look into the running pod (`kubectl debug`).
pub(crate) fn every_container(pod: &Pod) -> impl Iterator<Item = Container> {
    all_containers(pod)
        .cloned()
        .chain(ephemeral_containers(pod).map(from_ephemeral))
}

pub(crate) fn ephemeral_containers(pod: &Pod) -> impl Iterator<Item = &EphemeralContainer> {
    pod.spec.iter().flat_map(|s| s.ephemeral_containers.iter().flatten())
}

/// An ephemeral container is a container that probes, hooks and ports are not allowed for.
fn from_ephemeral(own: &EphemeralContainer) -> Container {
    let own = own.clone();
    Container {
        name: own.name,
        image: own.image,
        image_pull_policy: own.image_pull_policy,
        command: own.command,
        args: own.args,
        env: own.env,
        env_from: own.env_from,
        working_dir: own.working_dir,
        volume_mounts: own.volume_mounts,
        security_context: own.security_context,
        stdin: own.stdin,
        stdin_once: own.stdin_once,
        tty: own.tty,
        termination_message_path: own.termination_message_path,
        termination_message_policy: own.termination_message_policy,
        ..Container::default()
    }
}
