//! Which resources exist: built-in ones and those of custom resource definitions.

mod builtin;
mod registry;
mod strategy;

pub use builtin::register;
pub use registry::{Registry, ResourceInfo, SubresourceInfo, api_version};
pub use strategy::{Column, Plain, Removal, Strategy, UpdateContext};
