//! Analysis: objects in, messages with codes out. No IO.
//!
//! | module | its one idea |
//! |---|---|
//! | [`message`] | what a finding is, and the catalogue of codes |
//! | [`objects`] | the objects that are looked at |
//! | [`analyzers`] | the checks, one per module |
//! | [`validation`] | one custom resource alone, as the admission webhook judges it |
//! | [`pages`] | what each code means, with an example and the remedy |
//! | [`precheck`] | may a mesh be installed or upgraded here |

pub mod analyzers;
pub mod message;
pub mod objects;
pub mod pages;
pub mod precheck;
mod selectors;
pub mod validation;
