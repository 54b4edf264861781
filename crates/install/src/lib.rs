//! Installation: what the user asked for becomes objects, and objects become a running control plane.
//!
//! | module | its one idea |
//! |---|---|
//! | [`assets`] | charts and profiles, embedded or from a folder |
//! | [`input`] | profile + files + flags → one specification |
//! | [`validate`] | mistakes in it, with path and suggestion |
//! | [`component`] | specification → objects per component |
//! | [`chart`] | one Helm chart → objects |
//! | [`manifest`] | objects → text, and their order |
//! | [`values`], [`yaml`], [`object`] | trees, text, Kubernetes objects as data |

pub mod assets;
pub mod chart;
pub mod component;
pub mod input;
pub mod manifest;
pub mod object;
mod overlay;
mod settings;
pub mod validate;
pub mod values;
pub mod yaml;
