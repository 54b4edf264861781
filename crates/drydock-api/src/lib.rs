//! The local Kubernetes API server of drydock.
//!
//! A request runs through one pipeline, whatever its kind (architecture.md §6):
//! authenticate → parse the path → authorize → decode and default → field ownership → mutating admission →
//! defaults and validation → validating admission → store.
//!
//! - [`server`] listens, [`handlers`] runs the pipeline and the verbs; [`core`] is what all parts share.
//! - [`request`], [`codec`], [`patch`], [`select`] turn bytes into meaning, bounded.
//! - [`resource`] knows which kinds exist, [`kinds`] what the built-in ones demand, [`schema`] their fields.
//! - [`discovery`], [`openapi`] with [`explain`], and [`table`] are what clients see of kinds.
//! - [`hooks`] are the seams for identity, permission, admission and ownership:
//!   [`auth`], [`admission`], [`apply`], [`crd`] and [`stream`] fill them.
//! - [`expression`] is CEL, for rules of custom resources, match conditions and policies.

pub mod admission;
pub mod apply;
pub mod auth;
pub mod crd;
pub mod stream;

pub mod codec;
pub mod core;
pub mod discovery;
pub mod error;
pub mod explain;
pub mod expression;
pub mod field;
pub mod follow;
pub mod handlers;
pub mod hooks;
pub mod kinds;
pub mod label_selector;
pub mod meta;
pub mod objects;
pub mod openapi;
pub mod patch;
pub mod request;
pub mod resource;
pub mod schema;
pub mod select;
pub mod server;
pub mod table;

pub use crate::core::{Config, Core};
pub use error::ApiError;
pub use server::{Handle, Server};
