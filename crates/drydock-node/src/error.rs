//! What can go wrong on the node, said with the object it went wrong with.

use std::path::Path;

/// A failure of the node; the message names the object and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// The action and the path.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A command (`runc`, `nft`, …) failed.
    #[error("{command}: {message}")]
    Command {
        /// Program and first arguments.
        command: String,
        /// Its last words.
        message: String,
    },
    /// The network could not be set up.
    #[error("network: {0}")]
    Network(String),
    /// An image archive or the image store is not as it should be.
    #[error("image {image}: {message}")]
    Image {
        /// Reference, digest or file.
        image: String,
        /// What is wrong.
        message: String,
    },
    /// A pod asks for something that cannot be given, or not yet.
    #[error("{0}")]
    Pod(String),
    /// The API server answered with an error.
    #[error("API server: {0}")]
    Api(#[from] Box<kube::Error>),
    /// A certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
}

impl Error {
    /// Adds action and path to an I/O error: `.map_err(Error::io("read", path))`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let what = format!("{action} {}", path.display());
        move |source| Self::Io { what, source }
    }

    pub(crate) fn errno(action: &'static str, path: &Path) -> impl FnOnce(nix::Error) -> Self + use<> {
        let io = Self::io(action, path);
        move |errno| io(errno.into())
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
