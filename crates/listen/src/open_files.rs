//! As many open files as the system allows: each connection is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of this process, which its children inherit, to the hard one. Container runtimes give a soft
/// limit of 1,024 to programs that do not ask, so that the proxy after the thousandth would find no place.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most).map(|()| most));
    match raised {
        Ok(files) => tracing::debug!(files, "open files are allowed up to the hard limit"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is: connections may be refused"),
    }
}
