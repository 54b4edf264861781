//! Traffic capture: what has to be set up in a pod's network namespace so that its traffic goes through the proxy
//! (control-plane.md §4.9). Pure: configuration in, rules out; [`apply`] decides which commands to run and a
//! [`apply::Runner`] runs them.
//!
//! One program, two dialects: each rule is stated once, in the words of iptables and of nftables side by side, so that
//! the two back ends cannot drift apart.
//!
//! | module | one idea |
//! |---|---|
//! | [`config`] | what can be asked for, and what is refused |
//! | [`rule`] | tables, chains, and a rule in both dialects |
//! | [`program`] | configuration → rules, in order |
//! | [`iptables`] | rules → input of `iptables-restore`, and how to undo it |
//! | [`nftables`] | rules → one `nft` transaction |
//! | [`state`] | what `iptables-save` says is there already |
//! | [`apply`] | rules → commands, idempotent, and clean-up |

pub mod apply;
pub mod config;
pub mod iptables;
pub mod nftables;
pub mod program;
pub mod rule;
pub mod state;

mod dns;
mod tproxy;

pub use config::{Config, ConfigError};
pub use rule::Rule;
