//! The report: JSON for machines, Markdown for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::limits::Limits;
use crate::targets;

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
    /// Connections that had to be made again, by reason.
    pub reconnects: BTreeMap<String, u64>,
    /// Milliseconds until an endpoint change reached half, 99 of 100, and all sidecars: the median of the rounds.
    pub change_p50_ms: f64,
    pub change_p99_ms: f64,
    pub change_max_ms: f64,
    /// The server's processor time for one change, in seconds.
    pub change_cpu_s: f64,
    /// Seconds until each was in sync, for the plots.
    #[serde(skip)]
    pub syncs: Vec<f64>,
    /// Milliseconds until each heard of an endpoint change, all rounds together.
    #[serde(skip)]
    pub delays: Vec<f64>,
}

impl Figures {
    /// Connections that had to be made again.
    pub fn lost(&self) -> u64 {
        self.reconnects.values().sum()
    }
}

/// What one change of the mesh led to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChangeFigures {
    /// Sidecars that it concerns, and sidecars that received anything.
    pub concerned: usize,
    pub received: usize,
    /// Milliseconds until half of those concerned, and the last one, had everything.
    pub p50_ms: f64,
    pub last_ms: f64,
    /// The server's processor time.
    pub cpu_s: f64,
}

/// Endpoints that change all the time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChurnFigures {
    pub changes_per_s: f64,
    /// Endpoint sets that all sidecars together received.
    pub responses_per_s: f64,
    /// Milliseconds during which a sidecar did not know of a change.
    pub staleness_p50_ms: f64,
    pub staleness_p99_ms: f64,
    pub staleness_max_ms: f64,
    /// Share of one core.
    pub cpu_share: f64,
}

/// All sidecars connect again at once.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReconnectFigures {
    pub sync_p50_s: f64,
    pub sync_max_s: f64,
    pub cpu_s: f64,
    /// The slowest against the median.
    pub slowest_to_median: f64,
}

/// Sidecars that connect with certificates.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MutualFigures {
    pub synced: usize,
    pub sync_max_s: f64,
    pub cpu_s: f64,
    pub kib_per_sidecar: f64,
    /// Against the same number in plaintext, in the same run.
    pub sync_to_plaintext: f64,
    /// Processor time for each that plaintext does not take, in milliseconds.
    pub cpu_ms_per_sidecar: f64,
    pub full_handshakes: u64,
    /// All connect again at once, with the sessions that they remember.
    pub again_sync_max_s: f64,
    pub again_cpu_s: f64,
    /// Handshakes that went on with a session.
    pub again_resumed: u64,
}

/// From the start of the process to readiness.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StartFigures {
    pub pods: usize,
    pub endpoint_slices: usize,
    pub ready_s: f64,
    pub cpu_s: f64,
    pub memory_mib: f64,
}

/// The whole suite.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Machine and shape of the mesh.
    pub about: String,
    /// The commit that was measured.
    pub commit: String,
    /// The control plane, by number of sidecars.
    pub sidecars: BTreeMap<String, Figures>,
    /// Recorded answers without any computing, by number of sidecars.
    pub floor: BTreeMap<String, Figures>,
    /// By what was changed.
    pub changes: BTreeMap<String, ChangeFigures>,
    /// The mesh is the one whose figures are known: of the usual shape, and fed from files at the rate that was meant.
    pub usual: bool,
    /// Less of everything was measured.
    pub quick: bool,
    /// Seconds that the whole run took.
    pub took_s: f64,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
    /// Number of sidecars in `changes`, `churn` and `idle_cpu_share`.
    pub sidecars_changed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<ChurnFigures>,
    /// Share of one core while nothing changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_cpu_share: Option<f64>,
    /// By number of sidecars.
    pub reconnect: BTreeMap<String, ReconnectFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutual: Option<MutualFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<StartFigures>,
    /// What the machine can do at most.
    pub limits: Limits,
    /// Control plane to floor, and what else does not depend on the machine's speed.
    pub ratios: BTreeMap<String, f64>,
}

impl Report {
    /// Notes why something could not be measured.
    pub fn failed<T>(&mut self, what: &str, measured: anyhow::Result<T>) -> Option<T> {
        measured
            .inspect_err(|error| self.failures.push(format!("{what}: {error:#}")))
            .ok()
    }

    /// What can be compared between runs and machines.
    pub fn ratios(&self) -> BTreeMap<String, f64> {
        let mut ratios = BTreeMap::new();
        if let Some(mutual) = &self.mutual {
            ratios.insert("mutual TLS sync to plaintext".to_owned(), mutual.sync_to_plaintext);
        }
        for (sidecars, ours) in &self.sidecars {
            let Some(floor) = self.floor.get(sidecars) else {
                continue;
            };
            let mut put = |name: &str, ours: f64, floor: f64| {
                if floor > 0.0 {
                    ratios.insert(format!("{sidecars} {name}"), ours / floor);
                }
            };
            put("sync to floor", ours.sync_max_s, floor.sync_max_s);
            put("cpu to floor", ours.cpu_s, floor.cpu_s);
            put("memory to floor", ours.kib_per_sidecar, floor.kib_per_sidecar);
            // A change costs little against bringing everything, or something is computed too often.
            put("change cpu to sync cpu", ours.change_cpu_s, ours.cpu_s);
            if let Some(again) = self.reconnect.get(sidecars) {
                put("reconnect to floor", again.sync_max_s, floor.sync_max_s);
            }
        }
        let Some(sync) = self.sidecars.get(&self.sidecars_changed.to_string()) else {
            return ratios;
        };
        let mut put = |name: String, cpu: f64| {
            if sync.cpu_s > 0.0 {
                ratios.insert(
                    format!("{} {name} cpu to sync cpu", self.sidecars_changed),
                    cpu / sync.cpu_s,
                );
            }
        };
        for (name, change) in &self.changes {
            put(name.clone(), change.cpu_s);
        }
        if let Some(churn) = &self.churn {
            put("a second of churn".to_owned(), churn.cpu_share);
        }
        if let Some(start) = &self.start {
            put("start".to_owned(), start.cpu_s);
        }
        ratios
    }

    /// The tables.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# Discovery under load\n\n{}\nCommit {}; {}took {:.0} s.\n\n",
            self.about,
            self.commit,
            if self.quick { "a quick run, " } else { "" },
            self.took_s
        );
        for failure in &self.failures {
            let _ = writeln!(text, "**Not measured:** {failure}\n");
        }
        self.loads(&mut text);
        self.changes(&mut text);
        self.others(&mut text);
        text.push_str("\n## Targets\n\n| | measured | bound | |\n|---|---|---|---|\n");
        for target in targets::of(self) {
            let met = if target.is_met() { "met" } else { "**missed**" };
            let _ = writeln!(
                text,
                "| {} | {:.3} | {} | {met} |",
                target.name, target.measured, target.bound
            );
        }
        text
    }

    fn loads(&self, text: &mut String) {
        text.push_str("| | sidecars | all in sync | CPU | memory per sidecar | each receives | lost connections | one endpoint change p50 / p99 / max |\n|---|---|---|---|---|---|---|---|\n");
        for (name, figures) in [("control plane", &self.sidecars), ("floor", &self.floor)] {
            for (sidecars, f) in by_number(figures) {
                let change = if f.change_max_ms > 0.0 {
                    format!(
                        "{:.1} / {:.1} / {:.1} ms, {:.3} s CPU",
                        f.change_p50_ms, f.change_p99_ms, f.change_max_ms, f.change_cpu_s
                    )
                } else {
                    String::new()
                };
                let _ = writeln!(
                    text,
                    "| {name} | {sidecars} | {:.2} s | {:.2} s | {:.0} KiB | {:.2} MiB: {} clusters, {} endpoint sets, {} listeners, {} routes | {} | {change} |",
                    f.sync_max_s,
                    f.cpu_s,
                    f.kib_per_sidecar,
                    f.mib_received,
                    f.clusters,
                    f.endpoint_sets,
                    f.listeners,
                    f.routes,
                    f.lost()
                );
            }
        }
        text.push_str("\nThe floor sends recorded answers and computes nothing. Control plane to floor, in the same run:\n\n| | ratio |\n|---|---|\n");
        for (name, ratio) in &self.ratios {
            let _ = writeln!(text, "| {name} | {ratio:.3} |");
        }
    }

    fn changes(&self, text: &mut String) {
        if self.changes.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n## Other changes, {} sidecars\n\n| | concerns | received by | p50 / last | CPU |\n|---|---|---|---|---|",
            self.sidecars_changed
        );
        for (name, c) in &self.changes {
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {:.1} / {:.1} ms | {:.3} s |",
                c.concerned, c.received, c.p50_ms, c.last_ms, c.cpu_s
            );
        }
    }

    fn others(&self, text: &mut String) {
        text.push_str("\n## Over time\n\n");
        if let Some(churn) = &self.churn {
            let _ = writeln!(
                text,
                "- {:.0} endpoint changes per second, {} sidecars: not known for {:.1} / {:.1} / {:.1} ms (p50 / p99 / max), {:.0} endpoint sets received per second, {:.0} % of a core.",
                churn.changes_per_s,
                self.sidecars_changed,
                churn.staleness_p50_ms,
                churn.staleness_p99_ms,
                churn.staleness_max_ms,
                churn.responses_per_s,
                churn.cpu_share * 100.0
            );
        }
        for (sidecars, r) in by_number(&self.reconnect) {
            let _ = writeln!(
                text,
                "- {sidecars} sidecars connect again at once: all in sync after {:.2} s, {:.2} s CPU, the slowest {:.2} times the median.",
                r.sync_max_s, r.cpu_s, r.slowest_to_median
            );
        }
        if let Some(share) = self.idle_cpu_share {
            let _ = writeln!(
                text,
                "- Nothing changes, {} sidecars: {:.3} % of a core.",
                self.sidecars_changed,
                share * 100.0
            );
        }
        if let Some(m) = &self.mutual {
            let _ = writeln!(
                text,
                "- {} sidecars with mutual TLS: all in sync after {:.2} s ({:.2} times plaintext), {:.2} s CPU ({:.2} ms more for each), {:.0} KiB each; once more at once, {} of {} with an earlier session: {:.2} s, {:.2} s CPU.",
                m.synced,
                m.sync_max_s,
                m.sync_to_plaintext,
                m.cpu_s,
                m.cpu_ms_per_sidecar,
                m.kib_per_sidecar,
                m.again_resumed,
                m.full_handshakes,
                m.again_sync_max_s,
                m.again_cpu_s
            );
        }
        let _ = writeln!(
            text,
            "- One core copies {:.1} GiB/s, moves {:.1} GiB/s over loopback, and signs {:.0} times a second.",
            self.limits.copy_gib_s, self.limits.loopback_gib_s, self.limits.signatures_s
        );
        if let Some(start) = &self.start {
            let _ = writeln!(
                text,
                "- Start with {} pods and {} endpoint slices from files: ready after {:.2} s, {:.2} s CPU, {:.0} MiB.",
                start.pods, start.endpoint_slices, start.ready_s, start.cpu_s, start.memory_mib
            );
        }
    }
}

/// Rows in the order of their numbers.
fn by_number<T>(rows: &BTreeMap<String, T>) -> Vec<(&String, &T)> {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|(number, _)| number.parse::<usize>().unwrap_or_default());
    rows
}
