//! Which resources exist: built-in ones and those of custom resource definitions.

mod registry;
mod strategy;

pub use registry::{Registry, ResourceInfo, SubresourceInfo};
pub use strategy::{Column, Plain, Strategy, UpdateContext};
