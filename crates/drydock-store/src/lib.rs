//! The object store of drydock: everything in memory under one revision, everything acknowledged on disk.
//!
//! - [`Store`] reads, writes and watches; a write is acknowledged after its commit reached the disk.
//! - `log` is the disk side: a `redb` file holding the current objects, written by one thread that
//!   commits all waiting writes together.
//! - `history` is the ring of recent events: watches resume from it and lists go back in time with it;
//!   what has fallen out of it is [`Error::Compacted`].

mod error;
mod history;
mod log;
mod store;
mod watch;

pub use error::Error;
pub use store::{Expect, Listing, Store, Stored, Written};
pub use watch::{Change, Event, Watch};
