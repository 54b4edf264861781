//! Subcommands beside `proxy`.

pub mod iptables;
pub mod request;
pub mod wait;

mod routes;
