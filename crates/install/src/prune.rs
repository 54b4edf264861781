//! What an earlier run of the same installation left and this one no longer renders (revisions.md §1.7).

use std::collections::BTreeSet;

use api::names::{DEFAULT_REVISION, label};

use crate::api_server::{ApiServer, RequestError, kind};
use crate::component::{Component, Kind};
use crate::input::Operator;
use crate::object::{Id, Object};
use crate::owner;
use crate::record::{Gateway, Memory, Others};
use crate::served;
use crate::tag::Inventory;

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
    before: &Inventory,
) -> Result<Vec<Id>, RequestError> {
    let mut found = Vec::new();
    for kind in kinds() {
        found.extend(left(server, operator, components, &kind).await?);
    }
    let others = others(server, operator, &found, before).await?;
    found.retain(|object| Gateway::of(object).is_none_or(|gateway| others.with(&KEEP, &gateway).is_empty()));
    Ok(found.iter().map(Object::id).collect())
}

/// What is said of gateways that this installation had and does not ask for any more.
pub(crate) async fn gateways(
    server: &ApiServer,
    operator: &Operator,
    components: &[Component],
    before: &Inventory,
) -> Result<Vec<String>, RequestError> {
    let deployments = left(server, operator, components, &kind("apps", "v1", "Deployment")).await?;
    let others = others(server, operator, &deployments, before).await?;
    let gateways = deployments.iter().filter_map(Gateway::of);
    Ok(gateways.map(|gateway| told(&gateway, &others, before)).collect())
}

/// A gateway that another revision has, or may have, is as much that one's: it serves until it is given back.
const KEEP: [Memory; 2] = [Memory::Had, Memory::Unrecorded];

/// What is said of one.
fn told(gateway: &Gateway<'_>, others: &Others, before: &Inventory) -> String {
    let default = before.target(DEFAULT_REVISION);
    let preferred = |memory| {
        let revisions = others.with(&[memory], gateway);
        served::preferred(&revisions, default, before).map(str::to_owned)
    };
    let stays = format!("The gateway {gateway} stays, although it is not asked for any more");
    if let Some(other) = preferred(Memory::Had) {
        return format!(
            "{stays}: revision {other} has it too. Give it back with: istioctl gateway revert --revision {other}"
        );
    }
    if let Some(other) = preferred(Memory::Unrecorded) {
        return format!(
            "{stays}: nothing records whether revision {other} has it too. Put it on that one with: istioctl gateway revert \
             --revision {other}"
        );
    }
    format!("The gateway {gateway} is not asked for any more, and no other revision has it: it goes, with its Service.")
}

async fn left(
    server: &ApiServer,
    operator: &Operator,
    components: &[Component],
    kind: &Id,
) -> Result<Vec<Object>, RequestError> {
    let mut objects = server.list(kind, &owner::selector(operator)).await?;
    objects.retain(|object| is_leftover(object, components));
    Ok(objects)
}

/// What other revisions remember, where it matters.
async fn others(
    server: &ApiServer,
    operator: &Operator,
    left: &[Object],
    before: &Inventory,
) -> Result<Others, RequestError> {
    if !left.iter().any(|object| Gateway::of(object).is_some()) {
        return Ok(Others::default());
    }
    let namespace = operator.namespace();
    let revisions = served::others(operator.revision_label(), namespace, before);
    Others::read(server, namespace, &revisions).await
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
    #![allow(clippy::unwrap_used)]
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

    #[test]
    fn a_gateway_that_another_revision_has_stays_and_is_said() {
        let mut deployment = object("edge", "IngressGateways");
        deployment.0["kind"] = "Deployment".into();
        let gateway = Gateway::of(&deployment).unwrap();
        let check = |gateways: Option<&str>, keeps: bool| {
            let record = Object(json!({"kind": "ConfigMap",
                "metadata": {"name": "values-old", "namespace": "istio-system"}, "data": {"gateways": gateways}}));
            let others = Others::among(&["old".to_owned()], "istio-system", &[record]);
            assert_eq!(!others.with(&KEEP, &gateway).is_empty(), keeps, "{gateways:?}");
            told(&gateway, &others, &Inventory::default())
        };
        let had = check(Some(r#"{"ingressGateways": [{"name": "edge"}]}"#), true);
        insta::assert_snapshot!(had, @"The gateway edge.istio-system stays, although it is not asked for any more: revision old has it too. Give it back with: istioctl gateway revert --revision old");
        insta::assert_snapshot!(check(None, true), @"The gateway edge.istio-system stays, although it is not asked for any more: nothing records whether revision old has it too. Put it on that one with: istioctl gateway revert --revision old");
        let off = check(
            Some(r#"{"ingressGateways": [{"name": "edge", "enabled": false}]}"#),
            false,
        );
        insta::assert_snapshot!(off, @"The gateway edge.istio-system is not asked for any more, and no other revision has it: it goes, with its Service.");
        assert_eq!(check(Some("{}"), false), off);
    }
}
