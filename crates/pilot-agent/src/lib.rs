//! The agent beside every proxy: it makes Envoy's bootstrap, runs Envoy as its child, gives it certificates, carries its
//! configuration stream to istiod, and answers for its health (control-plane.md §4).
//!
//! | module | one idea |
//! |---|---|
//! | [`settings`] | environment variables, read once |
//! | [`proxy_config`] | ProxyConfig: defaults ← mesh file ← `PROXY_CONFIG` ← annotation |
//! | [`pod_info`] | labels and annotations from the downward API |
//! | [`node`] | who this proxy says it is: id, metadata, locality |
//! | [`bootstrap`] | node and configuration → Envoy's bootstrap (pure) |
//! | [`control_plane`] | a connection to istiod: roots, token, headers |
//! | [`workload`] | key and certificate: requested, renewed, published |
//! | [`sds`] | secrets served to Envoy on a Unix socket |
//! | [`relay`] | Envoy's discovery stream, byte for byte, to istiod |
//! | [`envoy`] | Envoy as a child: arguments, start, drain, end |
//! | [`status`] | port 15020: readiness, metrics, probes of the application |
//! | [`dns`] | names of the mesh, answered locally |
//! | [`fetch`] | one bounded HTTP request |
//! | [`agent`] | all of it together: `pilot-agent proxy` |
//! | [`commands`] | the other subcommands |

pub mod agent;
pub mod backoff;
pub mod bootstrap;
pub mod commands;
pub mod control_plane;
pub mod dns;
pub mod envoy;
pub mod fetch;
pub mod node;
pub mod pod_info;
pub mod proxy_config;
pub mod relay;
pub mod sds;
pub mod settings;
pub mod status;
pub mod workload;

/// Version of this build: what the image says, else the crate's.
pub fn version() -> String {
    std::env::var("TRYSAIL_VERSION").unwrap_or_else(|_| env!("CARGO_PKG_VERSION").to_owned())
}
