//! One endpoint changes, and every sidecar has to hear of it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::sidecar::{Event, now};
use crate::{Shape, mesh};

/// Longest time to wait for all sidecars.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a change; delays until it reached each sidecar, in milliseconds, sorted.
pub async fn one(
    folder: &Path,
    shape: Shape,
    sidecars: usize,
    events: &mut mpsc::UnboundedReceiver<Event>,
) -> Result<Vec<f64>> {
    while events.try_recv().is_ok() {}
    let (file, all) = (mesh::changing(folder), mesh::slice(shape, 0, shape.pods));
    let is_whole = std::fs::read_to_string(&file).is_ok_and(|text| text == all);
    let next = if is_whole {
        mesh::slice(shape, 0, shape.pods - 1)
    } else {
        all
    };
    let made = now();
    mesh::save(&file, &next)?;
    let deadline = Instant::now() + PATIENCE;
    let mut delays = Vec::with_capacity(sidecars);
    while delays.len() < sidecars {
        match timeout_at(deadline, events.recv()).await {
            Ok(Some(Event::Changed(at))) if at >= made => delays.push((at - made) as f64 / 1e6),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    delays.sort_by(f64::total_cmp);
    Ok(delays)
}
