//! What tests are made from: objects and meshes from YAML, proxies, resources as JSON.

mod discovery;
mod yaml;

pub use discovery::{ProxySpec, resource_json, resources_json};
pub use yaml::{YamlError, documents, events, mesh, objects};
