//! Streams to the node and proxies to pods and services.
//!
//! - [`connector`] answers `log`, `exec`, `attach`, `portforward` and `proxy`.
//! - [`target`] decides where such a request goes; [`tunnel`] carries it, upgrades included.

pub mod connector;
pub mod target;
pub mod tunnel;

pub use connector::NodeConnector;
