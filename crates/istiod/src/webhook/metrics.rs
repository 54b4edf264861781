//! Counters of injection, under Istio's names (revisions.md §5.2).

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What `/inject` did.
#[derive(Debug)]
pub struct InjectionMetrics {
    /// Requests received.
    pub requests: Counter,
    /// Pods injected.
    pub successes: Counter,
    /// Requests that failed, and pods refused.
    pub failures: Counter,
    /// Pods left as they were.
    pub skips: Counter,
    /// Time to answer, in seconds.
    pub seconds: Histogram,
}

impl InjectionMetrics {
    /// Registers the counters. The registry appends `_total` to counters.
    pub fn register(registry: &mut Registry) -> Self {
        let buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
        let metrics = Self {
            requests: Counter::default(),
            successes: Counter::default(),
            failures: Counter::default(),
            skips: Counter::default(),
            seconds: Histogram::new(buckets),
        };
        let mut add = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        add(
            "sidecar_injection_requests",
            "Total number of sidecar injection requests",
            &metrics.requests,
        );
        add(
            "sidecar_injection_success",
            "Total number of injected pods",
            &metrics.successes,
        );
        add(
            "sidecar_injection_failure",
            "Total number of failed sidecar injection requests",
            &metrics.failures,
        );
        add(
            "sidecar_injection_skip",
            "Total number of skipped sidecar injection requests",
            &metrics.skips,
        );
        let help = "Total time taken for injection in seconds";
        registry.register("sidecar_injection_time_seconds", help, metrics.seconds.clone());
        metrics
    }
}
