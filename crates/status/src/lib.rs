//! What every control plane says of every proxy.
//!
//! | module | its one idea |
//! |---|---|
//! | [`proxy`] | one istiod's answer → proxies with the state of each configuration type |
//! | [`version`] | one istiod's answer → its version |
//! | [`gather`] | ask all istiods at once; a slow or dead one costs its own answer and no other |
//! | [`clusters`] | one istiod's answer → the clusters that it reads |
//! | [`forward`] | HTTP to a pod through the API server |
//!
//! Nothing here prints.

pub mod clusters;
pub mod forward;
pub mod gather;
pub mod proxy;
pub mod version;
