//! Protocol types of Envoy's discovery services, Envoy's configuration, and Istio's own wire messages.
//!
//! The types are generated from the descriptors that the Envoy 1.40.0 binary carries (`api.fds.bin`) and from the
//! small protos in `protos/`; `cargo run -p xtask -- gen-xds` recreates them. Map fields are `BTreeMap`, so that one
//! message has one encoding.
#![allow(clippy::all, rustdoc::all)]
#[rustfmt::skip]
mod generated;
pub use generated::*;

pub mod json;
pub mod resource;
