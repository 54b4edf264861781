//! The objects that are looked at, whatever they were read from.

use std::collections::BTreeMap;

use revision::selector::Labels;
use serde_json::{Value, json};

/// Where an object remembers the file it is from (a JSON pointer).
pub(crate) const FILE: &str = "/metadata/annotations/analyze.trysail.dev~1file";
const FILE_KEY: &str = "analyze.trysail.dev/file";

/// Most objects looked at.
const MOST: usize = 500_000;

/// Objects by kind, namespace and name; a later one replaces an earlier one of the same name.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    by_kind: BTreeMap<String, BTreeMap<(String, String), Value>>,
    count: usize,
    mesh: Value,
}

impl Objects {
    /// Adds an object; lists are taken apart.
    pub fn add(&mut self, object: Value) {
        if let (Some(items), true) = (object.get("items").and_then(Value::as_array), is_list(&object)) {
            items.iter().cloned().for_each(|item| self.add(item));
            return;
        }
        if self.count >= MOST {
            return;
        }
        self.count += 1;
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let kind = text("/kind");
        let key = (text("/metadata/namespace"), text("/metadata/name"));
        self.by_kind.entry(kind).or_default().insert(key, object);
    }

    /// Adds an object of a file; one without a namespace that needs one is in `default`.
    pub fn add_from(&mut self, mut object: Value, file: &str) {
        if object.get("metadata").is_some_and(Value::is_object) {
            let annotations = &mut object["metadata"]["annotations"];
            if !annotations.is_object() {
                *annotations = json!({});
            }
            annotations[FILE_KEY] = file.into();
        }
        self.add(object);
    }

    /// Takes a mesh configuration to go by; else it is that of the ConfigMap `istio`, if there is one.
    pub fn set_mesh_config(&mut self, mesh: Value) {
        self.mesh = mesh;
    }

    /// The mesh configuration; `null` if none is known.
    pub fn mesh_config(&self) -> &Value {
        &self.mesh
    }

    /// All objects of a kind, sorted by namespace and name.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.by_kind.get(kind).into_iter().flat_map(BTreeMap::values)
    }

    /// One object.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.by_kind.get(kind)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Namespaces by name.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.of_kind("Namespace").map(|object| (name(object), object))
    }
}

fn is_list(object: &Value) -> bool {
    object
        .get("kind")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with("List"))
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `metadata.namespace`.
pub(crate) fn namespace(object: &Value) -> &str {
    object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `metadata.labels`.
pub(crate) fn labels(object: &Value) -> Labels {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
