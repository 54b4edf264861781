//! Reads what a cluster holds of revisions and tags.

use api::names::label;

use crate::api_server::{ApiServer, RequestError, kind};
use crate::object::Object;
use crate::tag::{Inventory, is_injector, leads_to};

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
    services.retain(is_revisioned);
    let (webhooks, strangers) = ours(webhooks, namespace);
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

fn is_revisioned(object: &Object) -> bool {
    !object.label(label::REVISION).is_empty() || !object.label(label::TAG).is_empty()
}

/// Mutating webhook configurations of the mesh whose system namespace this is, and others that inject.
fn ours(webhooks: Vec<Object>, namespace: &str) -> (Vec<Object>, Vec<Object>) {
    let is_ours = |object: &Object| is_revisioned(object) && leads_to(object, namespace);
    let (ours, mut others): (Vec<_>, Vec<_>) = webhooks.into_iter().partition(is_ours);
    others.retain(is_injector);
    (ours, others)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tag;

    fn configuration(name: &str, labels: Value, namespace: &str) -> Object {
        Object(
            json!({"kind": "MutatingWebhookConfiguration", "metadata": {"name": name, "labels": labels},
            "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io",
                "clientConfig": {"service": {"namespace": namespace, "name": "istiod"}}}]}),
        )
    }

    #[test]
    fn tags_and_revisions_of_another_mesh_are_strangers() {
        let tagged = json!({"istio.io/rev": "canary", "istio.io/tag": "prod"});
        let all = vec![
            configuration("own", json!({"istio.io/rev": "canary"}), "istio-system"),
            configuration("own-tag", tagged.clone(), "istio-system"),
            configuration("their-tag", tagged, "elsewhere"),
            configuration("theirs", json!({"istio.io/rev": "canary"}), "elsewhere"),
            configuration("nobodys", json!({}), "istio-system"),
        ];
        let (webhooks, strangers) = ours(all, "istio-system");
        let names = |objects: &[Object]| objects.iter().map(|o| o.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&webhooks), ["own", "own-tag"]);
        assert_eq!(names(&strangers), ["their-tag", "theirs", "nobodys"]);
        let mut inventory = Inventory {
            webhooks,
            strangers,
            ..Inventory::default()
        };
        let rows = |inventory: &Inventory| tag::list(inventory).len();
        assert_eq!(
            (
                rows(&inventory),
                tag::removal(&inventory, "prod").map(|found| found.len())
            ),
            (1, Ok(1))
        );
        inventory.add_other_meshes();
        assert_eq!(names(&inventory.webhooks), ["own", "own-tag", "their-tag", "theirs"]);
        assert_eq!(names(&inventory.strangers), ["nobodys"]);
    }
}
