//! Many simulated sidecars, kept connected.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::sidecar::{self, Clock, Event, Load, Received};

/// Longest time to wait for what a change leads to.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sidecars, and what they say.
pub struct Fleet {
    load: Load,
    events: mpsc::UnboundedReceiver<Event>,
    /// When the connections of now were begun; a new time makes all connect again.
    began: watch::Sender<Instant>,
    /// What they received until each was in sync.
    pub received: Arc<Received>,
    /// When endpoints were changed, and how long sidecars did not know.
    pub clock: Arc<Clock>,
    _tasks: JoinSet<()>,
}

/// What one sidecar received after a change: milliseconds to the first and to the last response.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub first: f64,
    pub last: f64,
}

impl Fleet {
    /// Starts all sidecars of a load.
    pub fn start(load: &Load) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let (began, begins) = watch::channel(Instant::now());
        let (received, clock) = (Arc::new(Received::default()), Arc::new(Clock::new(load.shape.services)));
        let mut tasks = JoinSet::new();
        for number in 0..load.sidecars {
            let outside = sidecar::Outside {
                received: received.clone(),
                clock: clock.clone(),
                events: sender.clone(),
            };
            tasks.spawn(sidecar::run(load.clone(), number, begins.clone(), outside));
        }
        Self {
            load: load.clone(),
            events,
            began,
            received,
            clock,
            _tasks: tasks,
        }
    }

    /// Number of sidecars.
    pub fn len(&self) -> usize {
        self.load.sidecars
    }

    /// Waits until all are in sync; seconds that each took, sorted. Fewer if time ran out. One that had to connect again
    /// counts once.
    pub async fn synced(&mut self) -> Vec<f64> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(self.load.timeout);
        let mut synced = BTreeMap::new();
        while synced.len() < self.len() {
            match timeout_at(deadline, self.events.recv()).await {
                Ok(Some(Event::Synced { sidecar, after })) => {
                    synced.entry(sidecar).or_insert(after.as_secs_f64());
                }
                Ok(Some(Event::Got { .. })) => {}
                Ok(None) | Err(_) => break,
            }
        }
        let mut seconds: Vec<f64> = synced.into_values().collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    /// All connections end and are made again at once, by sidecars that know nothing.
    pub async fn reconnect(&mut self) -> Vec<f64> {
        self.forget();
        self.began.send_replace(Instant::now());
        self.synced().await
    }

    /// Drops what sidecars said and nobody heard.
    pub fn forget(&mut self) {
        while self.events.try_recv().is_ok() {}
    }

    /// What arrives after a change that was made at `made`, until all of `wanted` have something and nothing more came
    /// for `quiet`.
    ///
    /// # Errors
    /// One of `wanted` heard nothing for long.
    pub async fn arrivals(
        &mut self,
        made: u64,
        wanted: &HashSet<usize>,
        quiet: Duration,
    ) -> Result<BTreeMap<usize, Arrival>> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut arrivals: BTreeMap<usize, Arrival> = BTreeMap::new();
        let mut missing = wanted.clone();
        loop {
            let until = if missing.is_empty() {
                tokio::time::Instant::now() + quiet
            } else {
                deadline
            };
            if missing.is_empty() && quiet.is_zero() {
                return Ok(arrivals);
            }
            match timeout_at(until, self.events.recv()).await {
                Ok(Some(Event::Got { sidecar, at })) if at >= made => {
                    let delay = (at - made) as f64 / 1e6;
                    arrivals
                        .entry(sidecar)
                        .and_modify(|arrival| arrival.last = delay)
                        .or_insert(Arrival {
                            first: delay,
                            last: delay,
                        });
                    missing.remove(&sidecar);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    ensure!(
                        missing.is_empty(),
                        "a change did not reach {} of {} sidecars",
                        missing.len(),
                        wanted.len()
                    );
                    return Ok(arrivals);
                }
            }
        }
    }
}
