//! What a request wants to do, as authorization sees it.

use crate::error::{ApiError, Subject};

/// A request's verb and target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An API resource.
    Resource {
        /// API group, empty for core.
        group: String,
        /// API version, for reviews only.
        version: String,
        /// Plural resource name.
        resource: String,
        /// Subresource or empty.
        subresource: String,
        /// Namespace; empty at cluster scope or for all namespaces.
        namespace: String,
        /// Object name or empty.
        name: String,
    },
    /// A URL path outside the resource API.
    Path(String),
}

/// One request to be authorized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, … or the HTTP method in lower case for paths.
    pub verb: String,
    /// What it is about.
    pub target: Target,
}

impl Attributes {
    /// The 403 for `user`; `reason` completes the message and may be empty.
    #[must_use]
    pub fn refusal(&self, user: &str, reason: &str) -> ApiError {
        let tail = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        match &self.target {
            Target::Path(path) => {
                let mut error = ApiError::new(
                    403,
                    "Forbidden",
                    format!("forbidden: User {user:?} cannot {} path {path:?}{tail}", self.verb),
                );
                error.details = Some(serde_json::Map::new());
                error
            }
            Target::Resource {
                group,
                resource,
                subresource,
                namespace,
                name,
                ..
            } => {
                let full = if subresource.is_empty() {
                    resource.clone()
                } else {
                    format!("{resource}/{subresource}")
                };
                let place = if namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace {namespace:?}")
                };
                let cause = format!(
                    "User {user:?} cannot {} resource {full:?} in API group {group:?} {place}{tail}",
                    self.verb
                );
                ApiError::forbidden(Subject { group, resource, name }, &cause)
            }
        }
    }
}
