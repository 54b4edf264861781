//! Why a reconcile did not reach its end.

use crate::shell::Key;

/// A failed step of a controller. The work queue tries the object again with back-off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("{action} {kind} {key}: {source}")]
    Api {
        /// What was tried: `create`, `update`, `delete`, …
        action: &'static str,
        /// Kind of the object, as in its manifest.
        kind: String,
        /// The object.
        key: Key,
        /// The client's error, with the server's own words.
        #[source]
        source: Box<kube::Error>,
    },
    /// Discovery of the server's resources failed.
    #[error("discovery of the API server's resources: {0}")]
    Discovery(#[source] Box<kube::Error>),
    /// The object cannot be acted upon as it is written.
    #[error("{kind} {key}: {reason}")]
    Invalid {
        /// Kind of the object.
        kind: &'static str,
        /// The object.
        key: Key,
        /// Which field is wrong and what it must be.
        reason: String,
    },
}

impl Error {
    /// HTTP status of the server's answer, if there was one.
    fn code(&self) -> Option<u16> {
        match self {
            Error::Api { source, .. } | Error::Discovery(source) => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Error::Invalid { .. } => None,
        }
    }

    /// The server's own message (what an event shows), or the whole error.
    #[must_use]
    pub fn server_message(&self) -> String {
        match self {
            Error::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            },
            other => other.to_string(),
        }
    }

    /// Somebody else wrote the object in between: ordinary, retried at once with a fresh copy.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The object is gone.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// A create met an object of the same name.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Error::Api { source, .. }
            if matches!(source.as_ref(), kube::Error::Api(status) if status.reason == "AlreadyExists"))
    }

    /// The namespace is being deleted: nothing can be created in it any more.
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
        self.code() == Some(403) && self.server_message().contains("being terminated")
    }
}
