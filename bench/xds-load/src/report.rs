//! The report: JSON for machines, Markdown for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// What one load of one server gave.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Sidecars that came into sync.
    pub synced: usize,
    /// Seconds until half of them were.
    pub sync_p50_s: f64,
    /// Seconds until all were.
    pub sync_max_s: f64,
    /// The server's processor time for that, in seconds.
    pub cpu_s: f64,
    /// The server's memory for each sidecar, in KiB.
    pub kib_per_sidecar: f64,
    /// MiB that each sidecar received.
    pub mib_received: f64,
    /// Resources that each sidecar received.
    pub clusters: u64,
    pub endpoint_sets: u64,
    pub listeners: u64,
    pub routes: u64,
    /// Connections that had to be made again.
    pub reconnects: u64,
    /// Milliseconds until an endpoint change reached half, 99 of 100, and all sidecars: the median of the rounds.
    pub change_p50_ms: f64,
    pub change_p99_ms: f64,
    pub change_max_ms: f64,
    /// The server's processor time for one change, in seconds.
    pub change_cpu_s: f64,
}

/// The whole suite.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Machine and shape of the mesh.
    pub about: String,
    /// The control plane, by number of sidecars.
    pub sidecars: BTreeMap<String, Figures>,
    /// Recorded answers without any computing, by number of sidecars.
    pub floor: BTreeMap<String, Figures>,
}

impl Report {
    /// The tables.
    pub fn markdown(&self) -> String {
        let mut text = format!("# Discovery under load\n\n{}\n\n", self.about);
        text.push_str("| | sidecars | all in sync | CPU | memory per sidecar | each receives | one change p50 / p99 / max |\n|---|---|---|---|---|---|---|\n");
        for (name, figures) in [("control plane", &self.sidecars), ("floor", &self.floor)] {
            for (sidecars, f) in figures {
                let change = if f.change_max_ms > 0.0 {
                    format!(
                        "{:.1} / {:.1} / {:.1} ms, {:.2} s CPU",
                        f.change_p50_ms, f.change_p99_ms, f.change_max_ms, f.change_cpu_s
                    )
                } else {
                    String::new()
                };
                let _ = writeln!(
                    text,
                    "| {name} | {sidecars} | {:.2} s | {:.2} s | {:.0} KiB | {:.2} MiB: {} clusters, {} endpoint sets, {} listeners, {} routes | {change} |",
                    f.sync_max_s,
                    f.cpu_s,
                    f.kib_per_sidecar,
                    f.mib_received,
                    f.clusters,
                    f.endpoint_sets,
                    f.listeners,
                    f.routes
                );
            }
        }
        text.push_str("\nRatios of control plane to floor, in the same run:\n\n| sidecars | all in sync | CPU | memory per sidecar |\n|---|---|---|---|\n");
        for (sidecars, ours) in &self.sidecars {
            let Some(floor) = self.floor.get(sidecars) else {
                continue;
            };
            let ratio = |ours: f64, floor: f64| {
                if floor > 0.0 {
                    format!("{:.2}", ours / floor)
                } else {
                    "–".to_owned()
                }
            };
            let _ = writeln!(
                text,
                "| {sidecars} | {} | {} | {} |",
                ratio(ours.sync_max_s, floor.sync_max_s),
                ratio(ours.cpu_s, floor.cpu_s),
                ratio(ours.kib_per_sidecar, floor.kib_per_sidecar)
            );
        }
        text
    }
}
