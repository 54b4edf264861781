//! Objects as text, and the order in which they are written and applied.

use crate::component::Component;
use crate::object::Object;
use crate::yaml;

/// `istioctl manifest generate`: CRDs first, then what others need, Services last (revisions.md §1.8).
pub fn text(components: &[Component]) -> String {
    let mut objects: Vec<&Object> = components.iter().flat_map(|component| &component.objects).collect();
    objects.sort_by_key(|object| {
        (
            rank(object),
            object.text("/apiVersion").to_owned(),
            object.kind().to_owned(),
            object.name().to_owned(),
        )
    });
    objects
        .iter()
        .map(|object| yaml::to_sorted(&object.0))
        .collect::<Vec<_>>()
        .join("\n---\n")
}

fn rank(object: &Object) -> u8 {
    match object.kind() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ServiceAccount" | "ClusterRole" => 2,
        "ClusterRoleBinding" => 3,
        "ValidatingWebhookConfiguration" => 4,
        "ConfigMap" => 5,
        "HorizontalPodAutoscaler" => 7,
        "Service" => 8,
        _ => 6,
    }
}

/// Order of applying within a component: what a workload reads comes before it, and what calls it comes last, so
/// that no webhook ever points at a control plane that is not there yet.
pub(crate) fn apply_rank(object: &Object) -> u8 {
    match object.kind() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ServiceAccount" => 2,
        "ClusterRole" | "Role" => 3,
        "ClusterRoleBinding" | "RoleBinding" => 4,
        "ConfigMap" | "Secret" => 5,
        "Service" | "EndpointSlice" => 6,
        "Deployment" | "DaemonSet" => 7,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => 9,
        _ => 8,
    }
}
