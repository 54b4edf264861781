//! drydock's controllers: ordinary clients of the Kubernetes API, which work against any API server.
//!
//! Each controller has a pure decision (typed objects in, actions out) and a thin shell that watches, calls it and
//! carries out the actions. Names, labels and events are those of Kubernetes' own controllers.

mod error;
mod hash;
mod meta;
mod percent;
mod pods;
mod selector;

mod shell;
mod world;

pub mod deployment;
pub mod endpoints;
pub mod load_balancer;
pub mod namespace_defaults;
pub mod replica_set;
pub mod root_ca;
pub mod scheduler;

pub use error::Error;
