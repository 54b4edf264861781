//! From the mesh to Envoy's configuration: (snapshot, proxy class) → resource sets.
//!
//! | module | its one idea |
//! |---|---|
//! | [`Generator`] | answers for classes, and says after an update whose answer differs |
//! | `graph` | memoised queries that record what they read |
//! | `query` | the queries and their levels |
//! | [`SharedGenerator`] | the same for several threads at once |
//! | [`Reclassified`] | whose class a change may concern |
//! | [`Proxy`], [`ProxyClass`] | a node message read; what translation may know of it |
//! | `client` | the part of a class that matters towards other services, shared by many classes |
//! | `scope`, `rules` | what a namespace sees; which DestinationRule applies |
//! | `sensitivity` | what of clients matters to anybody, so that all others share |
//! | `cluster`, `endpoint`, `listener`, `route`, `secret`, `name_table` | one resource type each |
//! | `authentication`, `authz` | PeerAuthentication and AuthorizationPolicy |
//! | `telemetry` | access logs and trace settings |
//! | `proto` | small steps between values and messages |
//! | `wire` | messages put together from parts that are encoded already |
//!
//! Names, metadata and the order of filters follow control-plane.md §2. Stock Envoy lacks Istio's extensions, so for
//! it nothing of them is emitted (§3): no metadata exchange, no `istio-peer-exchange` in the ALPN lists that are
//! offered, the ALPN override by core means.

// The wire form that dashboards and EnvoyFilters know has fields that Envoy marks as deprecated and still accepts.
#![allow(deprecated)]

mod authentication;
pub mod authz;
mod class;
mod client;
mod cluster;
pub mod contrib;
mod dynamic_dns;
mod endpoint;
mod envoy_filter;
mod generator;
mod graph;
mod host;
mod jwt;
mod listener;
mod name_table;
mod naming;
mod proto;
mod proxy;
mod query;
mod reclassified;
mod resource_type;
mod route;
mod rules;
mod scope;
mod secret;
mod seen;
mod sensitivity;
mod settings;
mod shared;
mod sidecar;
mod telemetry;
mod tls;
mod wire;

pub use generator::Generator;
pub use graph::ClassId;
pub use proxy::{Flavour, Interception, NodeError, Proxy, ProxyClass, Role};
pub use reclassified::Reclassified;
pub use resource_type::ResourceType;
pub use shared::SharedGenerator;
