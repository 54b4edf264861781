//! What the discovery service counts, as plain atomics; whoever serves metrics gives them names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::kinds;

/// A number per resource type.
pub type PerKind = [AtomicU64; kinds::RANKS];

/// Upper bounds in seconds of the buckets of [`Histogram`] for times.
pub const SECONDS: [f64; 9] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 10.0, 30.0];
/// Upper bounds in bytes of the buckets of [`Histogram`] for sizes.
pub const BYTES: [f64; 9] = [1.0, 1e4, 1e6, 4e6, 1e7, 4e7, 1e8, 2e8, 1e9];

/// Counts of observations by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64; 9],
    counts: [AtomicU64; 10],
    sum_micros: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64; 9]) -> Self {
        Self {
            bounds,
            counts: Default::default(),
            sum_micros: AtomicU64::new(0),
        }
    }

    /// Counts one observation.
    pub fn observe(&self, value: f64) {
        let bucket = self
            .bounds
            .iter()
            .position(|bound| value <= *bound)
            .unwrap_or(self.bounds.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add((value * 1e6) as u64, Relaxed);
    }

    /// Bounds, counts per bucket (the last is for what is over all bounds), sum of all observations.
    pub fn read(&self) -> (&[f64], Vec<u64>, f64) {
        (
            self.bounds,
            self.counts.iter().map(|c| c.load(Relaxed)).collect(),
            self.sum_micros.load(Relaxed) as f64 / 1e6,
        )
    }
}

/// All numbers of one discovery server (revisions.md §11.4 has the names they are published under).
#[derive(Debug)]
pub struct Counters {
    /// Responses sent.
    pub pushes: PerKind,
    /// Responses rejected by proxies.
    pub rejects: PerKind,
    /// Answers to responses that were no longer the last.
    pub expired_nonces: PerKind,
    /// Resources that proxies lost although they had rejected what may refer to them.
    pub abandoned: PerKind,
    /// Streams refused.
    pub refused: AtomicU64,
    /// From a change to its being sent, in seconds.
    pub convergence: Histogram,
    /// Size of responses in bytes.
    pub sizes: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            pushes: Default::default(),
            rejects: Default::default(),
            expired_nonces: Default::default(),
            abandoned: Default::default(),
            refused: AtomicU64::new(0),
            convergence: Histogram::new(&SECONDS),
            sizes: Histogram::new(&BYTES),
        }
    }
}

impl Counters {
    pub(crate) fn count(numbers: &PerKind, type_url: &str) {
        numbers[kinds::rank(type_url)].fetch_add(1, Relaxed);
    }

    pub(crate) fn sent(&self, response: &crate::stream::Response, age: Option<Duration>) {
        Self::count(&self.pushes, &response.type_url);
        self.sizes.observe(response.bytes as f64);
        if response.abandons > 0 {
            self.abandoned[kinds::rank(&response.type_url)].fetch_add(response.abandons as u64, Relaxed);
        }
        if let Some(age) = age {
            self.convergence.observe(age.as_secs_f64());
        }
    }
}
