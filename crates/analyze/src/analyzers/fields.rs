//! Reading fields of objects, and the selectors in them.

use revision::selector::Labels;
use serde_json::Value;

use crate::objects::Objects;

/// The items of a list.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The texts of a list.
pub(super) fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(value, pointer).filter_map(Value::as_str).collect()
}

/// A text; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A map of labels.
pub(super) fn map(value: &Value) -> Labels {
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Whether all of a map's labels are there; an empty one selects everything.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// A map of labels as Kubernetes writes selectors.
pub(super) fn shown(selector: &Labels) -> String {
    selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// An object by a reference `name` or `namespace/name`.
pub(super) fn find<'a>(objects: &'a Objects, kind: &str, namespace: &str, reference: &str) -> Option<&'a Value> {
    let (namespace, name) = reference.split_once('/').unwrap_or((namespace, reference));
    objects.get(kind, namespace, name)
}

/// `namespace/name`, or the name alone.
pub(super) fn full_name(object: &Value) -> String {
    match (crate::objects::namespace(object), crate::objects::name(object)) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}
