//! Servers whose clients cannot hold them: how many connections there are, and how long a client may take to say
//! what it wants.
//!
//! | module | its one idea |
//! |---|---|
//! | [`accept`] | connections up to a number, TLS handshakes within a time |
//! | [`first`] | a connection on which nobody asks for anything is closed |
//! | [`idle`] | a connection on which nothing is under way is closed |
//! | [`together`] | a connection and its streams as one task |
//! | [`http`] | pages over accepted connections, and their graceful end |
//! | [`open_files`] | as many of them as the system allows |

pub mod accept;
pub mod first;
pub mod http;
pub mod idle;
pub mod open_files;
pub mod together;

use std::time::Duration;

/// Bounds of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at one time; further ones are closed as soon as they are accepted.
    pub connections: usize,
    /// TLS handshakes under way at one time; further connections wait for their turn.
    pub handshakes: usize,
    /// A TLS handshake that takes longer is dropped.
    pub handshake_timeout: Duration,
    /// A client that has not sent the whole head of a request by then is closed: after connecting, and between two
    /// requests of HTTP/1.
    pub header_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshakes: 256,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
        }
    }
}
