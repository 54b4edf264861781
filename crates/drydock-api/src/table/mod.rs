//! Server-side printing: `meta.k8s.io` Tables.

mod age;
mod cluster_columns;
mod columns;
mod pods_cells;
mod policy_cells;
mod service_cells;
mod service_columns;
mod workload_cells;
mod workload_columns;

use serde_json::{Value, json};

use crate::{
    handlers::partial_object,
    resource::{Column, ResourceInfo},
};

pub use age::{age, age_of, short_duration};
pub use columns::{builtin_cells, builtin_columns};

/// What the rows carry of their objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    /// Metadata.
    #[default]
    Metadata,
    /// Nothing.
    None,
    /// Everything.
    Object,
}

/// Columns of kinds that have none of their own.
pub fn default_columns() -> Vec<Column> {
    vec![
        Column {
            name: "Name".into(),
            kind: "string".into(),
            format: "name".into(),
            description: NAME.into(),
            priority: 0,
        },
        Column {
            name: "Age".into(),
            kind: "date".into(),
            format: String::new(),
            description: AGE.into(),
            priority: 0,
        },
    ]
}

/// Description of the name column.
pub const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically.";
/// Description of the age column.
pub const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations.";

/// Objects as a Table of the given `meta.k8s.io` version.
pub fn render(resource: &ResourceInfo, objects: &[Value], list_meta: Value, version: &str, include: Include) -> Value {
    let own = resource.strategy.columns();
    let columns = own.clone().unwrap_or_else(default_columns);
    let definitions: Vec<Value> = columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells = match &own {
                Some(_) => resource.strategy.cells(object),
                None => vec![
                    crate::meta::name(object).into(),
                    object
                        .pointer("/metadata/creationTimestamp")
                        .cloned()
                        .unwrap_or(Value::Null),
                ],
            };
            let shown = match include {
                Include::Metadata => partial_object(object, version),
                Include::None => Value::Null,
                Include::Object => object.clone(),
            };
            json!({ "cells": cells, "object": shown })
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": list_meta,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

/// The Go type name of a kind, as in error messages.
pub fn go_name(resource: &ResourceInfo, kind: &str) -> String {
    if resource.custom {
        return "*unstructured.Unstructured".to_owned() + if kind == resource.list_kind { "List" } else { "" };
    }
    let short = if resource.group.is_empty() {
        "core"
    } else {
        resource.group.split('.').next().unwrap_or_default()
    };
    format!("*{short}.{kind}")
}
