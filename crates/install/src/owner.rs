//! Labels by which an installation knows its own objects again (revisions.md §1.1, layer 2).

use std::collections::BTreeMap;

use api::names::label;

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

/// The release of Helm that an object belongs to, as `name -n namespace`.
pub fn release(object: &Object) -> Option<String> {
    let annotation = |name: &str| object.0.pointer("/metadata/annotations")?.get(name)?.as_str();
    let (name, namespace) = (
        annotation("meta.helm.sh/release-name")?,
        annotation("meta.helm.sh/release-namespace")?,
    );
    Some(format!("{name} -n {namespace}"))
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
