//! What tests are made from: objects and meshes from YAML, proxies, resources as JSON, free ports.

mod discovery;
mod port;
mod yaml;

pub use discovery::{ProxySpec, resource_json, resources_json};
pub use port::free_port;
pub use yaml::{YamlError, documents, events, mesh, objects};
