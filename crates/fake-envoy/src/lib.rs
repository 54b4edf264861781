//! A proxy as Envoy is, for tests of what is told to one: it speaks both variants of the discovery protocol, asks for
//! what it is referred to, and checks all it is told. What is wrong is a panic with the story of the last hundred things
//! that happened.

mod envoy;
mod words;

pub use envoy::{Configuration, Envoy, Held, Refused};
pub use words::{Ask, Resource, Told, text};
