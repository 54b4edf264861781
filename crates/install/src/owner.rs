//! Labels by which an installation knows its own objects again (revisions.md §1.1, layer 2).

use std::collections::BTreeMap;

use api::names::label;

use serde_json::Value;

use crate::component::Kind;
use crate::input::Operator;
use crate::object::Object;

/// Field manager of the installer's writes.
pub const FIELD_MANAGER: &str = "istio-operator";
/// An object with this label is never pruned.
pub const NOT_PRUNED: &str = "install.operator.istio.io/owning-resource-not-pruned";

/// Labels of every object of this installation, without the component.
pub fn labels(operator: &Operator, version: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (label::OPERATOR_MANAGED.to_owned(), "Reconcile".to_owned()),
        (label::OPERATOR_VERSION.to_owned(), version.to_owned()),
        (
            label::OWNING_RESOURCE_NAMESPACE.to_owned(),
            operator.namespace().to_owned(),
        ),
        (label::REVISION.to_owned(), operator.revision_label().to_owned()),
    ]);
    if let Some(name) = operator.name() {
        labels.insert(label::OWNING_RESOURCE.to_owned(), name.to_owned());
    }
    labels
}

/// Puts the labels on an object itself, never on the pods it describes.
pub(crate) fn mark(object: &mut Object, labels: &BTreeMap<String, String>, component: Kind) {
    for (key, value) in labels {
        object.set_label(key, value);
    }
    object.set_label(label::OPERATOR_COMPONENT, component.label());
}

/// Annotation by which Helm leaves an object alone that a release does not ask for any more.
const KEPT_BY_HELM: (&str, &str) = ("helm.sh/resource-policy", "keep");
/// Annotations by which Helm knows the objects of a release.
const RELEASE: [&str; 2] = ["meta.helm.sh/release-name", "meta.helm.sh/release-namespace"];

/// The release of Helm that an object belongs to, as `name -n namespace`.
pub fn release(object: &Object) -> Option<String> {
    let annotation = |name: &str| object.0.pointer("/metadata/annotations")?.get(name)?.as_str();
    let [name, namespace] = RELEASE;
    Some(format!("{} -n {}", annotation(name)?, annotation(namespace)?))
}

/// Makes an object that Helm made nobody's: it bears no mark of a release, and an upgrade of the release that does not
/// ask for it any more leaves it where it is.
pub(crate) fn take_from_helm(object: &mut Object) {
    let mut remove = |map: &str, keys: &[&str]| {
        if let Some(map) = object.0.pointer_mut(map).and_then(Value::as_object_mut) {
            map.retain(|key, _| !keys.contains(&key.as_str()));
        }
    };
    remove("/metadata/annotations", &RELEASE);
    remove("/metadata/labels", &[label::APP_MANAGED_BY, label::HELM_CHART]);
    object.0["metadata"]["annotations"][KEPT_BY_HELM.0] = KEPT_BY_HELM.1.into();
}

/// Selects what earlier runs of this installation left, whatever version they were of.
pub(crate) fn selector(operator: &Operator) -> String {
    let mut parts = vec![
        format!("{}=Reconcile", label::OPERATOR_MANAGED),
        format!("{}={}", label::OWNING_RESOURCE_NAMESPACE, operator.namespace()),
        format!("{}={}", label::REVISION, operator.revision_label()),
        label::OPERATOR_COMPONENT.to_owned(),
    ];
    if let Some(name) = operator.name() {
        parts.push(format!("{}={name}", label::OWNING_RESOURCE));
    }
    parts.join(",")
}
