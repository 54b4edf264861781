//! Envoy's discovery stream to istiod and back, byte for byte (control-plane.md §4.5). Messages are not decoded: a new
//! field or type passes through an agent that does not know it.

mod codec;
mod names;
pub mod peek;
mod server;
mod stream;

pub use server::{Relay, serve};
pub use stream::Health;
