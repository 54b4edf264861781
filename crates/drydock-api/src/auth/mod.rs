//! Who asks and what they may: certificates, tokens, impersonation, RBAC and the review APIs.
//!
//! - [`pki`] is the cluster's root; [`token`] signs and verifies service account tokens.
//! - [`authenticate`] turns a request into a [`user::User`]; [`rbac`] decides by roles and bindings.
//! - [`bootstrap`] lists the roles a cluster starts with, [`aggregation`] fills the composed ones,
//!   [`escalation`] keeps users from granting what they do not hold.
//! - [`reviews`] and [`token_request`] are the APIs about all this; [`csr`] and [`signer`] give certificates on request,
//!   [`secret_tokens`] tokens that live in Secrets.

pub mod aggregation;
pub mod attributes;
pub mod authenticate;
pub mod bootstrap;
pub mod certificate;
pub mod csr;
pub mod escalation;
#[cfg(test)]
pub(crate) mod fixture;
pub mod impersonate;
pub mod node_scope;
pub mod pki;
pub mod rbac;
pub mod reviews;
pub mod secret_tokens;
pub mod signer;
pub mod token;
pub mod token_request;
pub mod user;
