//! A CRD's schema in the form that field ownership and strict decoding understand.

use super::node::{MAX_DEPTH, additional, embedded, flag, kind, preserves, properties};
use crate::schema::{ListType, Schema, Type};
use serde_json::Value;

/// The structure of a whole custom resource: the schema plus `apiVersion`, `kind` and `metadata`.
#[must_use]
pub fn root(schema: &Value) -> Schema {
    let mut out = node(schema, 0);
    out.ty = Type::Object;
    envelope(&mut out);
    out
}

/// The structure of one node.
#[must_use]
pub fn part(schema: &Value) -> Schema {
    node(schema, 0)
}

fn envelope(schema: &mut Schema) {
    let text = || Schema {
        ty: Type::String,
        ..Schema::default()
    };
    schema.fields.insert("apiVersion".into(), text());
    schema.fields.insert("kind".into(), text());
    let metadata = Schema {
        ty: Type::Object,
        reference: Some("meta.v1.ObjectMeta".into()),
        ..Schema::default()
    };
    schema.fields.insert("metadata".into(), metadata);
}

fn node(schema: &Value, depth: usize) -> Schema {
    let mut out = Schema {
        default: schema.get("default").cloned(),
        ..Schema::default()
    };
    if depth > MAX_DEPTH {
        return out;
    }
    if flag(schema, "x-kubernetes-int-or-string") {
        out.ty = Type::IntOrString;
        return out;
    }
    match kind(schema) {
        "string" => out.ty = Type::String,
        "boolean" => out.ty = Type::Boolean,
        "integer" => out.ty = Type::Int64,
        "number" => out.ty = Type::Number,
        "array" => {
            out.ty = Type::List;
            out.items = Some(Box::new(
                schema.get("items").map(|i| node(i, depth + 1)).unwrap_or_default(),
            ));
            out.list_type = match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(
                    schema["x-kubernetes-list-map-keys"]
                        .as_array()
                        .map(|k| k.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                        .unwrap_or_default(),
                ),
                _ => ListType::Atomic,
            };
        }
        _ => structure(schema, &mut out, depth),
    }
    out
}

fn structure(schema: &Value, out: &mut Schema, depth: usize) {
    out.atomic = schema["x-kubernetes-map-type"].as_str() == Some("atomic");
    if let Some(extra) = additional(schema) {
        out.ty = Type::Map;
        out.items = Some(Box::new(node(extra, depth + 1)));
        return;
    }
    let declared = properties(schema);
    out.preserve_unknown = preserves(schema);
    if declared.is_none_or(serde_json::Map::is_empty) && out.preserve_unknown && !embedded(schema) {
        out.ty = Type::Any;
        return;
    }
    out.ty = Type::Object;
    for (name, below) in declared.into_iter().flatten() {
        out.fields.insert(name.clone(), node(below, depth + 1));
    }
    if embedded(schema) {
        envelope(out);
    }
}
