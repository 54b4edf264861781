//! The bridge from client-side apply: `kubectl.kubernetes.io/last-applied-configuration`.

use super::{merge::drop_nulls, set::Set, shape::Node, walk};
use serde_json::Value;

/// The annotation of client-side apply.
pub const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager for which the bridge exists.
pub const KUBECTL: &str = "kubectl";

/// Whether the object carries the annotation.
#[must_use]
pub fn present(object: &Value) -> bool {
    annotation(object).is_some()
}

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()
}

/// Fields that kubectl may take although others own them: those it applied before and nobody changed since.
#[must_use]
pub fn allowed(node: Node<'_>, live: &Value) -> Set {
    let Some(text) = annotation(live) else {
        return Set::default();
    };
    let Ok(mut applied) = serde_json::from_str::<Value>(text) else {
        return Set::default();
    };
    drop_nulls(&mut applied);
    let difference = walk::compare(node, &applied, live);
    walk::fields(node, &applied)
        .difference(&difference.modified)
        .difference(&difference.added)
        .difference(&difference.removed)
}

/// Puts the applied configuration into the annotation.
pub fn refresh(object: &mut Value, applied: &Value) {
    let mut copy = applied.clone();
    if let Some(metadata) = copy.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(ANNOTATION);
        }
    }
    copy.sort_all_objects();
    object["metadata"]["annotations"][ANNOTATION] = Value::String(format!("{copy}\n"));
}
