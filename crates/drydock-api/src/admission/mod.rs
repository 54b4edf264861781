//! Admission: what may be stored, and what is changed on the way.
//!
//! - [`chain`] runs everything in order; [`plugins`] are the server's own rules.
//! - [`webhooks`] calls mutating and validating webhooks; [`rules`] decides which, [`review`] is the
//!   message, [`client`] the wire, [`service`] where a service reference leads.
//! - [`policy`] evaluates ValidatingAdmissionPolicies; [`configuration`] checks webhook configurations.

pub mod chain;
pub mod client;
pub mod conditions;
pub mod configuration;
pub mod plugins;
pub mod policy;
pub mod review;
pub mod rules;
pub mod service;
pub mod webhooks;

pub use chain::Chain;
