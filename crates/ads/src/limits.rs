//! Bounds on what one client, and all of them together, may use.

use std::time::Duration;

/// Bounds of the discovery service. Every field has a default that fits a proxy with tens of thousands of resources.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Streams open at one time, be they silent; further ones are refused with `UNAVAILABLE` so that proxies try another
    /// replica.
    pub streams: usize,
    /// Largest request in bytes.
    pub request_bytes: usize,
    /// Largest node message in bytes. Envoy's has a line for each of its extensions, the agent's the pod's annotations.
    pub node_bytes: usize,
    /// Bytes of requests on their way, of all streams together. A large request beyond it waits until there is room.
    pub receiving_bytes: usize,
    /// Bytes of large responses on their way to proxies, of all streams together; further ones wait their turn.
    pub sending_bytes: usize,
    /// Time within which a stream must have said what it wants, and a request that has begun be whole.
    pub request_time: Duration,
    /// Most names one subscription may hold.
    pub names: usize,
    /// Bytes of names of all subscriptions of one stream, and of resources that it holds and that are not any more; each
    /// counts 64 besides its text.
    pub subscription_bytes: usize,
    /// Longest name of a resource in bytes.
    pub name_bytes: usize,
    /// Most resource types one stream may watch.
    pub types: usize,
    /// Most unacknowledged responses per type that are remembered. Within `patience` what is beyond it waits; after that
    /// the oldest is forgotten.
    pub unacknowledged: usize,
    /// Most resources of a type that a proxy keeps although they are gone, because it rejected what replaces what used
    /// them; when there are more, all of them go.
    pub kept: usize,
    /// Requests handled in a row before other streams get their turn.
    pub burst: usize,
    /// How long a missing acknowledgement holds back what depends on it.
    pub patience: Duration,
    /// Bytes of encoded pieces and of computed steps kept for reuse, for all streams together; what they keep in memory
    /// counts.
    pub shared_bytes: usize,
    /// Longest rejection text kept per type, in bytes.
    pub error_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 100_000,
            request_bytes: 4 << 20,
            node_bytes: 512 << 10,
            receiving_bytes: 64 << 20,
            sending_bytes: 16 << 20,
            request_time: Duration::from_secs(30),
            names: 100_000,
            subscription_bytes: 32 << 20,
            name_bytes: 1024,
            types: 32,
            unacknowledged: 8,
            kept: 1000,
            burst: 16,
            patience: Duration::from_secs(5),
            shared_bytes: 64 << 20,
            error_bytes: 4096,
        }
    }
}
