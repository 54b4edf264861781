//! What an earlier run of the same installation left and this one no longer renders (revisions.md §1.7).

use std::collections::BTreeSet;

use api::names::label;

use crate::api_server::{ApiServer, RequestError, kind};
use crate::component::{Component, Kind};
use crate::input::Operator;
use crate::object::{Id, Object};
use crate::owner;

/// Kinds that an installation may consist of, in the order in which they are removed: what calls a control plane
/// goes before the control plane, so that nothing fails closed in between.
pub(crate) fn kinds() -> Vec<Id> {
    [
        ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"),
        ("apps", "v1", "Deployment"),
        ("apps", "v1", "DaemonSet"),
        ("autoscaling", "v2", "HorizontalPodAutoscaler"),
        ("policy", "v1", "PodDisruptionBudget"),
        ("", "v1", "Service"),
        ("discovery.k8s.io", "v1", "EndpointSlice"),
        ("", "v1", "ConfigMap"),
        ("networking.k8s.io", "v1", "NetworkPolicy"),
        ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
        ("rbac.authorization.k8s.io", "v1", "Role"),
        ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
        ("", "v1", "ServiceAccount"),
    ]
    .map(|(group, version, name)| kind(group, version, name))
    .to_vec()
}

/// What is to be removed, in this order.
pub(crate) async fn leftovers(
    server: &ApiServer,
    operator: &Operator,
    components: &[Component],
) -> Result<Vec<Id>, RequestError> {
    let selector = owner::selector(operator);
    let mut found = Vec::new();
    for kind in kinds() {
        let objects = server.list(&kind, &selector).await?;
        let left = objects.iter().filter(|object| is_leftover(object, components));
        found.extend(left.map(Object::id));
    }
    Ok(found)
}

/// Shared objects are never leftovers of one revision; neither is what is marked to stay.
fn is_leftover(object: &Object, components: &[Component]) -> bool {
    let component = object.label(label::OPERATOR_COMPONENT);
    if component == Kind::Base.label() || object.is_dependent() || object.label(owner::NOT_PRUNED) == "true" {
        return false;
    }
    let rendered: BTreeSet<Id> = components
        .iter()
        .filter(|c| c.kind.label() == component)
        .flat_map(|c| c.objects.iter().map(Object::id))
        .collect();
    !rendered.contains(&object.id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, component: &str) -> Object {
        Object(json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "istio-system", "labels": {"operator.istio.io/component": component}}}))
    }

    #[test]
    fn only_what_the_component_no_longer_renders_goes() {
        let components = [Component {
            kind: Kind::Pilot,
            objects: vec![object("istiod", "Pilot")],
        }];
        assert!(!is_leftover(&object("istiod", "Pilot"), &components));
        assert!(is_leftover(&object("old", "Pilot"), &components));
        assert!(is_leftover(
            &object("istio-ingressgateway", "IngressGateways"),
            &components
        ));
        assert!(!is_leftover(&object("shared", "Base"), &components));
        let mut slice = object("istiod-2lbfh", "Pilot");
        slice.0["metadata"]["ownerReferences"] = json!([{"kind": "Service", "name": "istiod"}]);
        assert!(!is_leftover(&slice, &components));
        let mut kept = object("istiod-revision-tag-default", "Pilot");
        kept.set_label(owner::NOT_PRUNED, "true");
        assert!(!is_leftover(&kept, &components));
    }
}
