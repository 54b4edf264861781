//! Validation and analysis: objects in, messages out.
//!
//! [`validation`] judges one custom resource alone, as the admission webhook does.

pub mod validation;
