//! The discovery protocol: who subscribed to what, what each proxy has, what it accepted, what it is sent next.
//!
//! Knows only the messages of the discovery service. Resources are opaque names, hashes and bytes
//! ([`xds::resource`]); what they mean, and which proxy is owed which set, is the business of a [`Source`].
//!
//! | module | its one idea |
//! |---|---|
//! | [`kinds`] | the resource types: order, wildcard rule, who refers to whom |
//! | [`source`] | where sets come from: one [`View`] per class of proxies, shared |
//! | [`stream`] | one proxy's state as a machine without IO: requests in, responses out when the wire has room |
//! | [`diff`] | steps between two sets, computed once for all streams |
//! | [`names`] | interned subscriptions |
//! | [`wire`] | responses as a small head and shared pieces |
//! | [`limits`] | bounds, all configurable |
//! | [`registry`] | who is connected and how far each got |
//! | [`counters`] | numbers for the metrics page |
//! | `requests` | request messages out of a body, nothing kept between them |
//! | `turns` | large responses leave in turns |
//! | `room` | a number of bytes that all streams share, for requests that arrive and responses that leave |
//! | `fields` | what a request must not be, seen before it is decoded |
//! | [`server`] | the machine behind gRPC |

pub mod counters;
pub mod diff;
pub mod kinds;
pub mod limits;
pub mod names;
pub mod registry;
pub mod server;
pub mod source;
pub mod stream;
pub mod wire;

mod fields;
mod recent;
mod requests;
mod room;
mod turns;

pub use limits::Limits;
pub use registry::{Connection, Registry};
pub use server::DiscoveryServer;
pub use source::{Opened, Peer, ProxyInfo, Question, Refusal, Secrets, Source, View};
pub use stream::{Protocol, Stream};
