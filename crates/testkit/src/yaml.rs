//! Meshes from YAML texts.

use std::sync::Arc;

use api::mesh_config::MeshConfig;
use mesh::{Event, Mesh, Object};
use serde_json::Value;

/// Why a text is no mesh.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// The text is no YAML.
    #[error("{0}")]
    Yaml(String),
    /// A document is no object.
    #[error(transparent)]
    Object(#[from] mesh::ObjectError),
    /// The mesh configuration has a field of the wrong type.
    #[error(transparent)]
    MeshConfig(#[from] api::mesh_config::MeshConfigError),
}

/// The documents of a text; a `List` gives its items.
///
/// # Errors
/// The text is no YAML.
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| YamlError::Yaml(e.to_string()))?;
    let mut documents = Vec::new();
    for mut value in values {
        if value.is_null() {
            continue;
        }
        // YAML 1.1, which Kubernetes' tools read, takes some bare names for truth values.
        if let Some(name @ Value::Bool(_)) = value.pointer_mut("/metadata/name") {
            *name = Value::String(name.to_string());
        }
        let is_list = value.get("kind").and_then(Value::as_str) == Some("List");
        match value.get_mut("items").and_then(Value::as_array_mut).filter(|_| is_list) {
            Some(items) => documents.append(items),
            None => documents.push(value),
        }
    }
    Ok(documents)
}

/// The objects of a text that the mesh reads; others are left out.
///
/// # Errors
/// The text is no YAML, or an object has a field of the wrong type.
pub fn objects(text: &str) -> Result<Vec<Object>, YamlError> {
    let mut objects = Vec::new();
    for document in documents(text)? {
        objects.extend(Object::from_json(document)?);
    }
    Ok(objects)
}

/// Events that apply the objects of a text.
///
/// # Errors
/// As [`objects`].
pub fn events(text: &str) -> Result<Vec<Event>, YamlError> {
    Ok(objects(text)?.into_iter().map(Event::Apply).collect())
}

/// A mesh with the objects of a text, under a mesh configuration (the built-in one if empty).
///
/// # Errors
/// As [`objects`], or the configuration has a field of the wrong type.
pub fn mesh(text: &str, mesh_config: &str) -> Result<Mesh, YamlError> {
    let mut mesh = Mesh::default();
    let config = documents(mesh_config)?.into_iter().next().unwrap_or_default();
    let mut all = vec![Event::MeshConfig(Arc::new(MeshConfig::from_json(config)?))];
    all.extend(events(text)?);
    mesh.apply(all);
    Ok(mesh)
}
