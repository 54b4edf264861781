//! Endpoints that change all the time: how long sidecars do not know, and what it costs.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::fleet::Fleet;
use crate::place::Place;
use crate::process::busy;
use crate::report::ChurnFigures;
use crate::{Shape, mesh};

/// Between two changes.
const PERIOD: Duration = Duration::from_millis(10);

/// Changes endpoints of one service after another for a time.
pub async fn run(place: &Place, shape: Shape, fleet: &mut Fleet, pid: u32, time: Duration) -> Result<ChurnFigures> {
    let services = mesh::CHANGING.min(shape.services);
    let (begun, before) = (Instant::now(), busy(pid)?);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut changes = 0;
    while begun.elapsed() < time {
        ticks.tick().await;
        let service = changes % services;
        let ready = shape.pods - (changes / services + 1) % 2;
        fleet.clock.changes(service);
        place.endpoints(shape, service, ready).await?;
        changes += 1;
        fleet.forget();
    }
    let (spent, took) = (busy(pid)? - before, begun.elapsed().as_secs_f64());
    // The last changes are still on their way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fleet.clock.stop();
    fleet.forget();
    let delays = &fleet.clock.delays;
    Ok(ChurnFigures {
        changes_per_s: changes as f64 / took,
        staleness_p50_ms: delays.quantile(0.5),
        staleness_p99_ms: delays.quantile(0.99),
        staleness_max_ms: delays.quantile(1.0),
        responses_per_s: delays.count() as f64 / took,
        cpu_share: spent / took,
    })
}
