//! Kubernetes-facing types of the control plane: names, Istio's custom resources, mesh configuration.
//!
//! Everything here is data: no IO, no decisions. A type reads what Istio's own decoder reads (protojson leniency:
//! durations as text, numbers as text, wrapper values), ignores what it does not know, and never panics.
pub mod crd;
pub mod extensions;
pub mod install;
pub mod kind;
pub mod lenient;
pub mod mesh_config;
pub mod names;
pub mod nearest;
pub mod networking;
pub mod proxy_config;
pub mod security;
pub mod telemetry;

pub use crd::crds;
