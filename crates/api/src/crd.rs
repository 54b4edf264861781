//! CustomResourceDefinitions, derived from the types and the table of kinds.
//!
//! A derived JSON schema is not a structural one: `null` alternatives, number formats and one-of-constants are
//! rewritten here to what the API server accepts. What it demands beyond the types is in [`constraints`].

mod constraints;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

use crate::kind::{KINDS, Kind};
use constraints::{ConstraintError, Constraints};

/// Definitions of all kinds.
///
/// # Errors
/// None in practice: an error would mean that the constraints do not fit the types, or that a schema is none of a
/// definition, which tests exclude.
pub fn crds() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    let constraints = Constraints::read()?;
    KINDS
        .iter()
        .map(|kind| Ok(serde_json::from_value(definition(kind, &constraints)?)?))
        .collect()
}

/// Schema of the objects of a kind, as its definition has it; derived once.
///
/// `None` would mean that constraints and types do not fit, which tests exclude.
pub fn schema(kind: &Kind) -> Option<&'static Value> {
    static SCHEMAS: LazyLock<BTreeMap<&str, Value>> = LazyLock::new(|| {
        let Ok(constraints) = Constraints::read() else {
            return BTreeMap::new();
        };
        let of = |kind: &Kind| Some((kind.kind, object_schema(kind, &constraints).ok()?));
        KINDS.iter().filter_map(of).collect()
    });
    SCHEMAS.get(kind.kind)
}

/// Why there are no definitions.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// The constraints do not fit the types.
    #[error(transparent)]
    Constraints(#[from] ConstraintError),
    /// What was made is no definition.
    #[error("what was derived from a type is no CustomResourceDefinition: {0}")]
    Shape(#[from] serde_json::Error),
}

fn object_schema(kind: &Kind, constraints: &Constraints) -> Result<Value, ConstraintError> {
    let mut spec = (kind.schema)().to_value();
    structural(&mut spec);
    let mut schema = json!({ "type": "object", "properties": { "spec": spec, "status": { "type": "object" } } });
    constraints.apply(kind.kind, &mut schema)?;
    Ok(schema)
}

fn definition(kind: &Kind, constraints: &Constraints) -> Result<Value, ConstraintError> {
    let schema = object_schema(kind, constraints)?;
    let columns: Vec<Value> = kind
        .columns
        .iter()
        .map(|(name, path, kind, description)| {
            json!({ "name": name, "jsonPath": path, "type": kind, "description": description })
        })
        .collect();
    let versions: Vec<Value> = kind
        .versions
        .iter()
        .map(|version| {
            let mut entry = json!({
                "name": version,
                "served": true,
                "storage": *version == kind.storage,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": schema },
            });
            if let (false, Value::Object(map)) = (columns.is_empty(), &mut entry) {
                map.insert("additionalPrinterColumns".to_owned(), Value::Array(columns.clone()));
            }
            entry
        })
        .collect();
    let area = kind.group.split('.').next().unwrap_or_default();
    let mut names = json!({
        "categories": ["istio-io", format!("{area}-istio-io")],
        "kind": kind.kind,
        "listKind": format!("{}List", kind.kind),
        "plural": kind.plural,
        "singular": kind.singular,
    });
    if let (false, Value::Object(map)) = (kind.short.is_empty(), &mut names) {
        map.insert("shortNames".to_owned(), json!(kind.short));
    }
    Ok(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{}", kind.plural, kind.group),
            "annotations": { "helm.sh/resource-policy": "keep" },
            "labels": { "app": "istio-pilot", "chart": "istio", "heritage": "Tiller", "release": "istio" },
        },
        "spec": { "group": kind.group, "names": names, "scope": "Namespaced", "versions": versions },
    }))
}

/// Rewrites a derived schema, in place, into a structural one.
fn structural(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for key in ["title", "default", "nullable", "$schema", "components"] {
        map.remove(key);
    }
    unwrap_optional(map);
    number_format(map);
    constants_to_enum(map);
    if let Some(Value::Array(types)) = map.get("type") {
        let first = types
            .iter()
            .find(|t| *t != "null")
            .cloned()
            .unwrap_or_else(|| json!("object"));
        map.insert("type".to_owned(), first);
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
    if let Some(items) = map.get_mut("items") {
        structural(items);
    }
    if let Some(additional) = map.get_mut("additionalProperties") {
        structural(additional);
    }
    if map.get("x-kubernetes-preserve-unknown-fields").is_some() && !map.contains_key("type") {
        map.insert("type".to_owned(), json!("object"));
    }
}

/// `anyOf: [X, null]` and `allOf: [X]` become X with the outer description.
fn unwrap_optional(map: &mut Map<String, Value>) {
    for key in ["anyOf", "allOf"] {
        let Some(Value::Array(options)) = map.get(key) else {
            continue;
        };
        let mut real = options
            .iter()
            .filter(|o| o.get("type") != Some(&json!("null")) && o.get("enum") != Some(&json!([null])));
        if let (Some(Value::Object(only)), None) = (real.next().cloned(), real.next()) {
            map.remove(key);
            for (name, value) in only {
                map.entry(name).or_insert(value);
            }
            map.remove("nullable");
            map.remove("title");
        }
    }
}

/// Formats that Kubernetes knows stay; those of unsigned numbers become bounds.
fn number_format(map: &mut Map<String, Value>) {
    let format = map.get("format").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !matches!(format.as_str(), "int32" | "double") {
        map.remove("format");
        map.remove("minimum");
    }
    if matches!(format.as_str(), "uint32" | "uint64") {
        map.insert("minimum".to_owned(), json!(0));
    }
    if format == "uint32" {
        map.insert("maximum".to_owned(), json!(u32::MAX));
    }
}

/// `oneOf` of constants becomes `enum`.
fn constants_to_enum(map: &mut Map<String, Value>) {
    let Some(Value::Array(options)) = map.get("oneOf") else {
        return;
    };
    let values: Option<Vec<Value>> = options
        .iter()
        .map(|o| match (o.get("const"), o.get("enum")) {
            (Some(value), _) => Some(vec![value.clone()]),
            (None, Some(Value::Array(values))) => Some(values.clone()),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .map(|lists| lists.concat());
    if let Some(values) = values {
        map.remove("oneOf");
        map.insert("type".to_owned(), json!("string"));
        map.insert("enum".to_owned(), Value::Array(values));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn walk(path: &str, schema: &Value, check: &mut impl FnMut(&str, &Map<String, Value>)) {
        let Value::Object(map) = schema else {
            panic!("{path} is no schema")
        };
        check(path, map);
        if let Some(Value::Object(properties)) = map.get("properties") {
            for (name, schema) in properties {
                walk(&format!("{path}.{name}"), schema, check);
            }
        }
        for key in ["items", "additionalProperties"] {
            if let Some(schema) = map.get(key) {
                walk(&format!("{path}.{key}"), schema, check);
            }
        }
    }

    fn of(kind: &Kind) -> Value {
        definition(kind, &Constraints::read().unwrap()).unwrap()
    }

    #[test]
    fn every_node_of_every_schema_has_a_type_and_nothing_unstructural() {
        for kind in KINDS {
            let definition = of(kind);
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            walk(kind.kind, schema, &mut |path, map| {
                let either = map.contains_key("x-kubernetes-int-or-string");
                assert!(map.contains_key("type") != either, "{path} has no type");
                for bad in ["$ref", "const", "title", "default"] {
                    assert!(!map.contains_key(bad), "{path} has {bad}");
                }
            });
        }
        assert_eq!(crds().unwrap().len(), KINDS.len());
    }

    #[test]
    fn exactly_one_version_is_stored() {
        for kind in KINDS {
            assert!(kind.versions.contains(&kind.storage), "{}", kind.kind);
        }
    }

    #[test]
    fn enums_are_enums() {
        let definition = of(Kind::find("security.istio.io", "PeerAuthentication").unwrap());
        insta::assert_json_snapshot!(
            definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["mtls"]["properties"]["mode"]["enum"],
            @r#"
        [
          "UNSET",
          "DISABLE",
          "PERMISSIVE",
          "STRICT"
        ]
        "#);
    }
}
