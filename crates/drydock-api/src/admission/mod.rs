//! Admission: what may be stored, and what is changed on the way.
//!
//! - [`chain`] runs everything in order; [`plugins`] are the server's own rules.
//! - [`webhooks`] calls mutating and validating webhooks; [`rules`] decides which, [`review`] is the
//!   message, [`client`] the wire, [`service`] where a service reference leads.
//! - [`policy`] evaluates ValidatingAdmissionPolicies, [`policy_definition`] and [`type_check`] look at them;
//!   [`configuration`] checks webhook configurations.

pub mod chain;
pub mod client;
pub mod conditions;
pub mod configuration;
pub mod plugins;
pub mod policy;
pub mod policy_definition;
pub mod review;
pub mod rules;
pub mod service;
pub mod type_check;
pub mod webhooks;

pub use chain::Chain;
