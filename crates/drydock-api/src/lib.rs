//! The local Kubernetes API server of drydock.
//!
//! A request runs through one pipeline, whatever its kind (architecture.md §6):
//! authenticate → parse the path → authorize → decode → mutating admission →
//! defaults and validation → validating admission → field ownership → store.
//!
//! - [`core`] is what all parts share.
//! - [`request`] turns paths and queries into meaning, bounded.
//! - [`resource`] knows which kinds exist; [`schema`] their fields.
//! - [`hooks`] are the seams for identity, permission, admission and ownership:
//!   [`auth`], [`admission`], [`apply`], [`crd`] and [`stream`] fill them.

pub mod admission;
pub mod apply;
pub mod auth;
pub mod crd;
pub mod stream;

pub mod core;
pub mod error;
pub mod field;
pub mod hooks;
pub mod label_selector;
pub mod objects;
pub mod request;
pub mod resource;
pub mod schema;

pub use crate::core::Core;
pub use error::ApiError;
