//! Reads what a cluster holds of revisions and tags.

use api::names::label;

use crate::api_server::{ApiServer, RequestError, kind};
use crate::tag::{Inventory, is_injector};

/// Reads everything at once; `namespace` is the system namespace.
pub async fn read(server: &ApiServer, namespace: &str) -> Result<Inventory, RequestError> {
    let admission = |name| kind("admissionregistration.k8s.io", "v1", name);
    let inside = |name| {
        let mut id = kind("", "v1", name);
        namespace.clone_into(&mut id.namespace);
        id
    };
    let (mutating, validating) = (
        admission("MutatingWebhookConfiguration"),
        admission("ValidatingWebhookConfiguration"),
    );
    let (service, pod, all_namespaces) = (inside("Service"), inside("Pod"), kind("", "v1", "Namespace"));
    let (webhooks, validators, mut services, pods, namespaces) = futures::try_join!(
        server.list(&mutating, ""),
        server.list(&validating, ""),
        server.list(&service, ""),
        server.list(&pod, "app=istiod"),
        server.list(&all_namespaces, ""),
    )?;
    let revisioned = |object: &crate::object::Object| {
        !object.label(label::REVISION).is_empty() || !object.label(label::TAG).is_empty()
    };
    services.retain(revisioned);
    let (webhooks, mut strangers): (Vec<_>, Vec<_>) = webhooks.into_iter().partition(revisioned);
    strangers.retain(is_injector);
    let validators = validators.into_iter().filter(|v| v.name().contains("istio")).collect();
    Ok(Inventory {
        webhooks,
        strangers,
        services,
        validators,
        pods,
        namespaces,
    })
}
