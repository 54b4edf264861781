//! Custom resources: from a CustomResourceDefinition to a kind that behaves.
//!
//! - [`definition`] defaults and checks definitions, [`structural`] their schemas, [`selectable`] field selectors.
//! - [`controller`] accepts names, registers versions and cleans up; [`names`] decides about names.
//! - [`kind`] is the behaviour of one version of a custom resource. It is made of [`prune`], [`defaults`],
//!   [`validate`] with [`format`] and [`lists`], [`rules`] (CEL), [`columns`] over [`jsonpath`],
//!   and [`convert`], which tells field ownership about the schema.

pub mod columns;
pub mod controller;
pub mod convert;
pub mod defaults;
pub mod definition;
pub mod format;
pub mod jsonpath;
pub mod kind;
pub mod lists;
pub mod names;
pub mod node;
pub mod prune;
pub mod rules;
pub mod selectable;
pub mod structural;
pub mod validate;

pub use definition::default as default_definition;
