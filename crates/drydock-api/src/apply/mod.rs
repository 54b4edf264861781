//! Who owns which field: `metadata.managedFields` and server-side apply.
//!
//! - [`set`] is a set of field paths and its `FieldsV1` encoding; [`element`] one step of a path.
//! - [`walk`] lists the fields of an object and compares two; [`merge`], [`remove`] and [`validate`]
//!   change and check one, all along a [`crate::schema::Schema`].
//! - [`managed`] is the list of managers on an object, [`conflict`] what they quarrel about,
//!   [`last_applied`] the bridge from client-side apply.
//! - [`manager`] puts them together.

pub mod conflict;
pub mod element;
pub mod last_applied;
pub mod managed;
pub mod manager;
pub mod merge;
pub mod remove;
pub mod set;
mod shape;
pub mod validate;
pub mod walk;

pub use manager::Ownership;
