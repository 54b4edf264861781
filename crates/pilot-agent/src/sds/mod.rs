//! Secrets served to Envoy on a Unix socket: the workload's own (`default`, `ROOTCA`) and those in files
//! (`file-cert:CERT~KEY`, `file-root:CA`) (control-plane.md §4.4).

pub mod files;
mod secret;
mod server;

pub use secret::Name;
pub(crate) use server::bind;
pub use server::{SecretServer, serve};
