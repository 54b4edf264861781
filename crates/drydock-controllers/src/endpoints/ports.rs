//! Which ports of a pod a Service leads to.

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Ports;

/// The Service's ports as `pod` serves them, in the Service's order. Ports that the pod does not name are left out.
pub(crate) fn of(service: &Service, pod: &Pod) -> Ports {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = number(port, pod)?;
            Some((
                Some(port.name.clone().unwrap_or_default()),
                Some(number),
                Some(protocol(port)),
                port.app_protocol.clone(),
            ))
        })
        .collect()
}

fn protocol(port: &ServicePort) -> String {
    port.protocol.clone().unwrap_or_else(|| "TCP".into())
}

fn number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
        Some(IntOrString::String(name)) => named(port, pod, name),
    }
}

/// A port by its name among those of the containers, native sidecars included.
fn named(port: &ServicePort, pod: &Pod, name: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let found = ports.find(|declared| {
        declared.name.as_deref() == Some(name) && declared.protocol.as_deref().unwrap_or("TCP") == protocol(port)
    });
    found.map(|declared| declared.container_port)
}
