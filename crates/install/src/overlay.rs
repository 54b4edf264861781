//! `k8s.overlays`: single values of rendered objects replaced or removed by path.

use serde_json::Value;

use crate::object::Object;
use crate::values::{SetError, Step, is_text, path};
use crate::yaml;

/// Why an overlay does not fit.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The path is malformed.
    #[error("overlay of {object}: {source}")]
    Path {
        /// Kind and name.
        object: String,
        /// What is wrong.
        source: SetError,
    },
    /// The path leads nowhere.
    #[error("overlay of {object}: {path}: the object has no such value to replace or remove")]
    Absent {
        /// Kind and name.
        object: String,
        /// The path.
        path: String,
    },
}

/// Applies the overlays to the objects that they name by kind and name; one that names none does nothing.
pub(crate) fn apply(objects: &mut [Object], k8s: &Value) -> Result<(), OverlayError> {
    for overlay in k8s.get("overlays").and_then(Value::as_array).into_iter().flatten() {
        let (kind, name) = (
            overlay["kind"].as_str().unwrap_or_default(),
            overlay["name"].as_str().unwrap_or_default(),
        );
        for object in objects
            .iter_mut()
            .filter(|object| object.kind() == kind && object.name() == name)
        {
            let label = format!("{kind}/{name}");
            for patch in overlay["patches"].as_array().into_iter().flatten() {
                let text = patch["path"].as_str().unwrap_or_default();
                let steps = path(text).map_err(|source| OverlayError::Path {
                    object: label.clone(),
                    source,
                })?;
                let value = patch.get("value").map(parsed);
                write(&mut object.0, &steps, value).ok_or_else(|| OverlayError::Absent {
                    object: label.clone(),
                    path: text.to_owned(),
                })?;
            }
        }
    }
    Ok(())
}

/// A text of several lines is YAML of a subtree (`value: |`).
fn parsed(value: &Value) -> Value {
    match value {
        Value::String(text) if text.contains('\n') => yaml::document(text)
            .ok()
            .filter(|tree| !tree.is_null())
            .unwrap_or_else(|| value.clone()),
        other => other.clone(),
    }
}

fn write(at: &mut Value, steps: &[Step], value: Option<Value>) -> Option<()> {
    let (step, rest) = steps.split_first()?;
    if rest.is_empty() {
        return match (step, value) {
            (Step::Field(name), Some(value)) => {
                at.as_object_mut()?.insert(name.clone(), value);
                Some(())
            }
            (Step::Field(name), None) => at.as_object_mut()?.shift_remove(name).map(|_| ()),
            (step, value) => {
                let list = at.as_array_mut()?;
                match (position(list, step), value) {
                    (Some(index), Some(value)) => list[index] = value,
                    (Some(index), None) => {
                        list.remove(index);
                    }
                    (None, Some(value)) => list.push(value),
                    (None, None) => return None,
                }
                Some(())
            }
        };
    }
    match step {
        Step::Field(name) => {
            let map = at.as_object_mut()?;
            if value.is_none() && !map.contains_key(name) {
                return None;
            }
            let next = map
                .entry(name.clone())
                .or_insert_with(|| Value::Object(Default::default()));
            write(next, rest, value)
        }
        step => {
            let list = at.as_array_mut()?;
            let index = position(list, step)?;
            write(list.get_mut(index)?, rest, value)
        }
    }
}

fn position(list: &[Value], step: &Step) -> Option<usize> {
    match step {
        Step::Index(index) => Some(*index).filter(|index| *index < list.len()),
        Step::Match(key, wanted) => list
            .iter()
            .position(|item| item.get(key).is_some_and(|value| is_text(value, wanted))),
        Step::Item(wanted) => list.iter().position(|item| is_text(item, wanted)),
        Step::Field(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn check(path: &str, value: Option<Value>, expected: Option<Value>) {
        let mut objects = [Object(json!({"kind": "Deployment", "metadata": {"name": "istiod"},
            "spec": {"args": ["a", "30m"], "env": [{"name": "X", "value": "1"}]}}))];
        let mut patch = json!({"path": path});
        if let Some(value) = value {
            patch["value"] = value;
        }
        let k8s = json!({"overlays": [{"kind": "Deployment", "name": "istiod", "patches": [patch]}]});
        let result = apply(&mut objects, &k8s);
        assert_eq!(result.is_ok().then(|| objects[0].0["spec"].clone()), expected, "{path}");
    }

    #[test]
    fn overlays_replace_add_and_remove() {
        check(
            "spec.args.[30m]",
            Some(json!("60m")),
            Some(json!({"args": ["a", "60m"], "env": [{"name": "X", "value": "1"}]})),
        );
        check(
            "spec.env.[name:X].value",
            Some(json!("2")),
            Some(json!({"args": ["a", "30m"], "env": [{"name": "X", "value": "2"}]})),
        );
        check(
            "spec.env.[name:X]",
            None,
            Some(json!({"args": ["a", "30m"], "env": []})),
        );
        check("spec.args", None, Some(json!({"env": [{"name": "X", "value": "1"}]})));
        check("spec.absent", None, None);
        check("spec.env.[name:Y].value", Some(json!("2")), None);
    }
}
