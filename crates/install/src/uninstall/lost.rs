//! Releases of Helm that are lost: their namespace went, and with it Helm's record of them. Helm removes nothing of them any
//! more, so that what is left outside of the namespace is nobody's.

use std::collections::BTreeSet;

use crate::api_server::{ApiServer, kind};
use crate::object::Object;
use crate::owner;
use crate::tag::Inventory;

/// Label of the records that Helm keeps in the namespace of a release.
const RECORDS: &str = "owner=helm";

/// Takes the marks of Helm off what is left of lost releases.
pub async fn disown(server: &ApiServer, owned: &mut [Object], inventory: &mut Inventory) {
    let tags = inventory.webhooks.iter_mut().chain(&mut inventory.services);
    let mut objects: Vec<&mut Object> = owned.iter_mut().chain(tags).collect();
    let mut lost = BTreeSet::new();
    for release in outside(&objects) {
        if !is_recorded(server, &release).await {
            lost.insert(release);
        }
    }
    disowned(&mut objects, &lost);
}

/// Releases of which nothing is left inside of a namespace.
fn outside(objects: &[&mut Object]) -> BTreeSet<String> {
    let is_outside = |object: &&&mut Object| object.namespace().is_empty();
    let inside = objects.iter().filter(|object| !is_outside(object));
    let inside: BTreeSet<String> = inside.filter_map(|object| owner::release(object)).collect();
    let outside = objects
        .iter()
        .filter(is_outside)
        .filter_map(|object| owner::release(object));
    outside.filter(|release| !inside.contains(release)).collect()
}

/// Has Helm a record of a release? Where nobody may look, it is taken to have one.
async fn is_recorded(server: &ApiServer, release: &str) -> bool {
    let Some((name, namespace)) = release.split_once(" -n ") else {
        return true;
    };
    for name_of_kind in ["Secret", "ConfigMap"] {
        let mut records = kind("", "v1", name_of_kind);
        namespace.clone_into(&mut records.namespace);
        match server.list(&records, &format!("{RECORDS},name={name}")).await {
            Ok(found) if found.is_empty() => {}
            _ => return true,
        }
    }
    false
}

fn disowned(objects: &mut [&mut Object], lost: &BTreeSet<String>) {
    for object in objects {
        if owner::release(object).is_some_and(|release| lost.contains(&release)) {
            owner::take_from_helm(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::uninstall::{Plan, Scope, plan};

    /// What Helm made of a revision: its injector, and where the namespace is still there a ConfigMap.
    fn made(with_namespace: bool) -> Vec<Object> {
        let metadata = |name: &str| {
            json!({"name": name,
                "labels": {"istio.io/rev": "canary", "operator.istio.io/component": "Pilot",
                    "app.kubernetes.io/part-of": "istio", "app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"meta.helm.sh/release-name": "istiod-canary",
                    "meta.helm.sh/release-namespace": "istio-system"},
                "managedFields": [{"manager": "helm"}]})
        };
        let service = json!({"name": "istiod-canary", "namespace": "istio-system"});
        let injector = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": metadata("istio-sidecar-injector-canary"),
            "webhooks": [{"name": "rev.namespace.sidecar-injector.istio.io", "clientConfig": {"service": service}}]});
        let mut validator = injector.clone();
        validator["kind"] = "ValidatingWebhookConfiguration".into();
        validator["metadata"]["name"] = "istio-validator-canary-istio-system".into();
        let mut inside = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("istio-canary")});
        inside["metadata"]["namespace"] = "istio-system".into();
        let inside = with_namespace.then_some(inside);
        [injector, validator].into_iter().chain(inside).map(Object).collect()
    }

    fn planned(objects: &[Object]) -> Plan {
        let inventory = Inventory {
            webhooks: objects[..1].to_vec(),
            ..Inventory::default()
        };
        plan(
            &Scope::Revision("canary".to_owned()),
            "istio-system",
            objects,
            &inventory,
        )
    }

    #[test]
    fn what_is_left_of_a_lost_release_goes() {
        let mut objects = made(false);
        let mut all: Vec<&mut Object> = objects.iter_mut().collect();
        let lost = outside(&all);
        assert_eq!(lost, BTreeSet::from(["istiod-canary -n istio-system".to_owned()]));
        disowned(&mut all, &lost);
        let plan = planned(&objects);
        let names: Vec<_> = plan.remove.iter().map(Object::name).collect();
        assert_eq!(
            names,
            ["istio-sidecar-injector-canary", "istio-validator-canary-istio-system"]
        );
        assert_eq!((plan.releases, plan.applied_by), (Vec::new(), vec!["helm".to_owned()]));
    }

    #[test]
    fn a_release_that_helm_knows_is_left_to_helm_also_without_its_deployment() {
        let mut objects = made(true);
        assert_eq!(outside(&objects.iter_mut().collect::<Vec<_>>()), BTreeSet::new());
        for objects in [objects, made(false)] {
            let plan = planned(&objects);
            assert_eq!(
                (plan.releases, plan.remove),
                (vec!["istiod-canary -n istio-system".to_owned()], Vec::new())
            );
        }
    }
}
