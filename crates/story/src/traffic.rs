//! Live traffic beside a story: every response is checked and counted.

mod inside;
mod outside;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Requests per second from outside, and at most so many from inside.
const RATE: u64 = 20;
/// Longest time that a response may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Failures that are kept with their reason.
const KEPT: usize = 20;
/// Namespace that serves and sends the traffic.
const NAMESPACE: &str = "test-ns";

/// Requests of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub sent: u64,
    pub failed: u64,
}

/// Everything that was sent, and how it went.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub outside: Count,
    pub inside: Count,
    /// Of the successful inside ones: those that the receiving proxy saw over mTLS.
    pub mtls: u64,
    /// Requests whose client ended before the response, because the client itself was restarted.
    pub cut_off: u64,
    pub failures: Vec<String>,
}

impl Totals {
    pub fn sent(&self) -> u64 {
        self.outside.sent + self.inside.sent
    }

    pub fn failed(&self) -> u64 {
        self.outside.failed + self.inside.failed
    }

    /// Share of the successful inside requests that came over mTLS, in percent.
    pub fn mtls_share(&self) -> f64 {
        let succeeded = self.inside.sent - self.inside.failed;
        if succeeded == 0 {
            0.0
        } else {
            self.mtls as f64 * 100.0 / succeeded as f64
        }
    }

    /// No failure, and all of the mesh's own traffic over mTLS.
    pub fn is_clean(&self) -> bool {
        self.sent() == 0
            || (self.failed() == 0 && self.outside.sent > 0 && self.inside.sent > 0 && self.mtls == self.inside.sent)
    }

    pub fn add(&mut self, other: Totals) {
        for (mine, theirs) in [(&mut self.outside, other.outside), (&mut self.inside, other.inside)] {
            mine.sent += theirs.sent;
            mine.failed += theirs.failed;
        }
        self.mtls += other.mtls;
        self.cut_off += other.cut_off;
        self.failures.extend(other.failures);
        self.failures.truncate(KEPT);
    }
}

/// Where the senders count.
#[derive(Clone, Debug, Default)]
struct Counter(Arc<Mutex<Totals>>);

impl Counter {
    fn with(&self, change: impl FnOnce(&mut Totals)) {
        // A poisoned counter still counts.
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    fn outside(&self, outcome: Result<(), String>) {
        self.with(|totals| {
            totals.outside.sent += 1;
            if let Err(reason) = outcome {
                totals.outside.failed += 1;
                totals.keep(format!("outside: {reason}"));
            }
        });
    }

    fn inside(&self, outcome: Result<bool, String>) {
        self.with(|totals| {
            totals.inside.sent += 1;
            match outcome {
                Ok(mtls) => totals.mtls += u64::from(mtls),
                Err(reason) => {
                    totals.inside.failed += 1;
                    totals.keep(format!("inside: {reason}"));
                }
            }
        });
    }
}

impl Totals {
    fn keep(&mut self, failure: String) {
        if self.failures.len() < KEPT {
            self.failures.push(failure);
        }
    }
}

/// Running traffic.
#[derive(Debug)]
pub struct Traffic {
    counter: Counter,
    stop: watch::Sender<bool>,
    senders: JoinSet<()>,
    gateway: String,
}

impl Traffic {
    /// Starts both directions once each has answered.
    pub async fn start(kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("cannot read the kubeconfig")?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = kube::Client::try_from(config)?;
        let gateway = outside::gateway(&client).await?;
        outside::first_answer(&gateway).await?;
        inside::first_answer(&client).await?;
        let (stop, stopped) = watch::channel(false);
        let counter = Counter::default();
        let mut senders = JoinSet::new();
        senders.spawn(outside::send(gateway.clone(), counter.clone(), stopped.clone()));
        senders.spawn(inside::send(client, counter.clone(), stopped));
        Ok(Self {
            counter,
            stop,
            senders,
            gateway,
        })
    }

    pub fn describe(&self) -> String {
        format!(
            "{RATE}/s outside → http://{} → httpbin, and sleep → httpbin inside {NAMESPACE}",
            self.gateway
        )
    }

    /// Lets requests under way finish and returns the count.
    pub async fn stop(mut self) -> Totals {
        self.stop.send_replace(true);
        while self.senders.join_next().await.is_some() {}
        let totals = self.counter.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        totals.clone()
    }
}
