//! Bounds on what one client, and all of them together, may use.

use std::time::Duration;

/// Bounds of the discovery service. Every field has a default that fits a proxy with tens of thousands of resources.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Streams open at one time; further ones are refused with `UNAVAILABLE` so that proxies try another replica.
    pub streams: usize,
    /// Largest request in bytes.
    pub request_bytes: usize,
    /// Most names one subscription may hold.
    pub names: usize,
    /// Longest resource name in bytes.
    pub name_bytes: usize,
    /// Most resource types one stream may watch.
    pub types: usize,
    /// Most answered but unacknowledged responses per type; subscriptions beyond it wait.
    pub unacknowledged: usize,
    /// Requests handled in a row before other streams get their turn.
    pub burst: usize,
    /// How long a missing acknowledgement holds back what depends on it.
    pub patience: Duration,
    /// Bytes of encoded pieces and of computed steps kept for reuse, for all streams together.
    pub shared_bytes: usize,
    /// Longest rejection text kept per type, in bytes.
    pub error_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 100_000,
            request_bytes: 4 << 20,
            names: 100_000,
            name_bytes: 1024,
            types: 32,
            unacknowledged: 8,
            burst: 16,
            patience: Duration::from_secs(5),
            shared_bytes: 64 << 20,
            error_bytes: 4096,
        }
    }
}
