//! Sidecar and gateway injection: from a pod, an injector configuration and a mesh configuration to the patched pod.
//!
//! | module | its one question |
//! |---|---|
//! | [`config`] | what does the injector ConfigMap say? |
//! | `shape` | is it a pod at all? |
//! | [`annotation`] | are the pod's injection annotations valid? |
//! | [`workload`] | which workload does the pod belong to? |
//! | `data`, `golang`, `functions` | what does a template see, under Go's names, with which functions? |
//! | `merge` | how is a rendered fragment laid over a pod? |
//! | `overlay` | what did the user customise in an injected container, and how is it kept? |
//! | `probe`, `metrics`, `order` | what is rewritten after the templates? |
//! | `canonical`, `written` | how do Kubernetes' own programs write it? |
//! | [`native`] | which proxies are init containers? |
//! | [`injector`] | the steps in order (revisions.md §5.4) |
//! | [`document`] | what becomes of the workloads in a file (§5.9)? |
//! | [`review`] | an admission review in, an admission review out (§5.2) |
//!
//! Everything is pure: the caller fetches configuration and answers the HTTP request.

pub mod annotation;
mod canonical;
pub mod config;
mod data;
pub mod document;
mod functions;
mod golang;
pub mod injector;
mod merge;
mod metrics;
pub mod native;
mod order;
mod overlay;
mod probe;
pub mod proxy_config;
pub mod review;
mod shape;
pub mod workload;
mod written;

pub use config::Config;
pub use injector::{InjectError, Injector, Outcome, Request};
pub use native::NativeSidecars;
