//! Definitions of custom resources that are older than the control plane: the API server drops fields that it does not
//! know, and refuses versions that it does not serve.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use super::fields::list;
use super::skew;
use crate::message::{DEFINITION_TOO_OLD, Message};
use crate::objects::Objects;

/// Most fields named in one message.
const NAMED: usize = 5;

/// The definitions that belong to this version.
static NEEDED: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let definitions = api::crd::crds().unwrap_or_default();
    definitions
        .iter()
        .filter_map(|definition| serde_json::to_value(definition).ok())
        .collect()
});

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    // Before there is a control plane nobody needs them, and its installation brings them.
    if skew::control_planes(objects).is_empty() {
        return;
    }
    messages.extend(too_old(objects));
}

/// Definitions that lack what this version reads.
pub(crate) fn too_old(objects: &Objects) -> Vec<Message> {
    let mut messages = Vec::new();
    for needed in NEEDED.iter() {
        let Some(installed) = objects.get("CustomResourceDefinition", "", crate::objects::name(needed)) else {
            continue;
        };
        let lacks = lacking(needed, installed);
        if lacks.is_empty() {
            continue;
        }
        let more = if lacks.len() > NAMED {
            format!(" and {} more", lacks.len() - NAMED)
        } else {
            String::new()
        };
        let lacks: Vec<String> = lacks.into_iter().take(NAMED).collect();
        messages.push(Message::about(
            DEFINITION_TOO_OLD,
            installed,
            format!(
                "The definition is older than this version, which knows {}{more}: the API server refuses or drops them. \
                 'istioctl install' brings the present one; with Helm, upgrade the chart base first.",
                lacks.join(", ")
            ),
        ));
    }
    messages
}

/// Versions that are not served, else fields that are not known.
fn lacking(needed: &Value, installed: &Value) -> Vec<String> {
    let served = |definition: &Value, name: &Value| {
        list(definition, "/spec/versions")
            .find(|version| version["served"] == true && version["name"] == *name)
            .cloned()
    };
    let mut missing: Vec<String> = Vec::new();
    let mut fields = BTreeSet::new();
    for version in list(needed, "/spec/versions").filter(|version| version["served"] == true) {
        let name = &version["name"];
        match served(installed, name) {
            None => missing.push(format!("version {}", name.as_str().unwrap_or_default())),
            Some(own) => {
                let schema = |version: &Value| version.pointer("/schema/openAPIV3Schema/properties/spec").cloned();
                if let (Some(needed), Some(own)) = (schema(version), schema(&own)) {
                    compare(&needed, &own, "spec", &mut fields);
                }
            }
        }
    }
    missing.extend(fields.into_iter().map(|field| format!("field {field}")));
    missing
}

fn compare(needed: &Value, own: &Value, path: &str, missing: &mut BTreeSet<String>) {
    if own["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    for (field, schema) in needed["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{field}");
        match own["properties"].get(field) {
            Some(own) => compare(schema, own, &path, missing),
            None => drop(missing.insert(path)),
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let (Some(needed), Some(own)) = (needed.get(inner), own.get(inner)) {
            compare(needed, own, path, missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(versions: &[(&str, Value)]) -> Value {
        let versions: Vec<Value> = versions
            .iter()
            .map(|(name, spec)| {
                json!({"name": name, "served": true, "schema": {"openAPIV3Schema": {"properties": {"spec": spec}}}})
            })
            .collect();
        json!({"spec": {"versions": versions}})
    }

    #[test]
    fn what_is_not_served_or_not_known_is_named_once() {
        let spec = json!({"properties": {
            "host": {}, "subsets": {"items": {"properties": {"name": {}, "labels": {}}}},
            "any": {"properties": {"thing": {}}}}});
        let old = json!({"properties": {
            "host": {}, "subsets": {"items": {"properties": {"name": {}}}},
            "any": {"x-kubernetes-preserve-unknown-fields": true}}});
        let needed = definition(&[("v1", spec.clone()), ("v1beta1", spec.clone())]);
        for (installed, expected) in [
            (needed.clone(), vec![]),
            (
                definition(&[("v1", old.clone()), ("v1beta1", old)]),
                vec!["field spec.subsets.labels"],
            ),
            (definition(&[("v1beta1", spec)]), vec!["version v1"]),
        ] {
            assert_eq!(lacking(&needed, &installed), expected);
        }
    }

    #[test]
    fn the_own_definitions_lack_nothing() {
        let mut objects = Objects::default();
        NEEDED.iter().cloned().for_each(|definition| objects.add(definition));
        assert!(!NEEDED.is_empty());
        assert_eq!(too_old(&objects), []);
    }
}
