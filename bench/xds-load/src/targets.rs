//! What the control plane has to reach.

use crate::report::{Figures, Report};

/// One figure and its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub name: String,
    pub measured: f64,
    pub bound: Bound,
}

/// Which values are good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtMost(f64),
    Exactly(f64),
    /// Within a quarter.
    About(f64),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "at most {bound}"),
            Self::Exactly(value) => write!(f, "{value}"),
            Self::About(value) => write!(f, "{value} ± 25 %"),
        }
    }
}

impl Target {
    /// Whether this is no question of speed but of the work itself: with less sent, or to others, the rest means nothing.
    pub fn is_the_work(&self) -> bool {
        matches!(self.bound, Bound::Exactly(_) | Bound::About(_))
    }

    /// Whether it is reached.
    pub fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.measured <= bound,
            Bound::Exactly(value) => (self.measured - value).abs() < f64::EPSILON,
            Bound::About(value) => (self.measured - value).abs() <= value / 4.0,
        }
    }
}

/// Bounds at one number of sidecars.
struct Load {
    sidecars: usize,
    cpu_s: Option<f64>,
    kib: f64,
    change_ms: f64,
    change_cpu_s: Option<f64>,
}

const LOADS: [Load; 3] = [
    Load {
        sidecars: 500,
        cpu_s: Some(2.2),
        kib: 100.0,
        change_ms: 15.0,
        change_cpu_s: None,
    },
    Load {
        sidecars: 2000,
        cpu_s: Some(8.0),
        kib: 90.0,
        change_ms: 50.0,
        change_cpu_s: Some(0.05),
    },
    Load {
        sidecars: 10_000,
        cpu_s: None,
        kib: 80.0,
        change_ms: 250.0,
        change_cpu_s: None,
    },
];
/// Sync of the control plane against the floor.
const SYNC: f64 = 1.3;

/// All targets whose figures the report has.
pub fn of(report: &Report) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut put = |name: String, measured: f64, bound: Bound| targets.push(Target { name, measured, bound });
    for load in LOADS {
        let sidecars = load.sidecars;
        let Some(f) = report.sidecars.get(&sidecars.to_string()) else {
            continue;
        };
        put(
            format!("{sidecars} sidecars in sync"),
            f.synced as f64,
            Bound::Exactly(sidecars as f64),
        );
        put(
            format!("{sidecars}: connections lost"),
            f.lost() as f64,
            Bound::AtMost(0.0),
        );
        if let Some(floor) = report.floor.get(&sidecars.to_string()) {
            let ratio = f.sync_max_s / floor.sync_max_s;
            put(format!("{sidecars}: sync to floor"), ratio, Bound::AtMost(SYNC));
        }
        if let Some(bound) = load.cpu_s {
            put(format!("{sidecars}: CPU, s"), f.cpu_s, Bound::AtMost(bound));
        }
        put(
            format!("{sidecars}: memory per sidecar, KiB"),
            f.kib_per_sidecar,
            Bound::AtMost(load.kib),
        );
        put(
            format!("{sidecars}: endpoint change p99, ms"),
            f.change_p99_ms,
            Bound::AtMost(load.change_ms),
        );
        if let Some(bound) = load.change_cpu_s {
            put(
                format!("{sidecars}: endpoint change CPU, s"),
                f.change_cpu_s,
                Bound::AtMost(bound),
            );
        }
        if report.usual {
            sizes(sidecars, f, &mut put);
        }
    }
    for (name, change) in &report.changes {
        let concerned = Bound::Exactly(change.concerned as f64);
        put(format!("{name}: receivers"), change.received as f64, concerned);
    }
    if let Some(churn) = &report.churn {
        if report.usual {
            put(
                "churn: changes per second".to_owned(),
                churn.changes_per_s,
                Bound::About(100.0),
            );
        }
        put(
            "churn: staleness p99, ms".to_owned(),
            churn.staleness_p99_ms,
            Bound::AtMost(100.0),
        );
        put("churn: share of a core".to_owned(), churn.cpu_share, Bound::AtMost(0.3));
    }
    for (sidecars, again) in &report.reconnect {
        put(
            format!("{sidecars} reconnect: slowest to median"),
            again.slowest_to_median,
            Bound::AtMost(3.0),
        );
        if let Some(floor) = report.floor.get(sidecars) {
            let ratio = again.sync_max_s / floor.sync_max_s;
            put(
                format!("{sidecars} reconnect: sync to floor"),
                ratio,
                Bound::AtMost(SYNC),
            );
        }
    }
    if let Some(mutual) = &report.mutual {
        put(
            "mutual TLS: sync to plaintext".to_owned(),
            mutual.sync_to_plaintext,
            Bound::AtMost(2.0),
        );
    }
    if let Some(share) = report.idle_cpu_share {
        put("idle: share of a core".to_owned(), share, Bound::AtMost(0.002));
    }
    if let Some(start) = &report.start {
        put("start: ready, s".to_owned(), start.ready_s, Bound::AtMost(5.0));
    }
    targets
}

/// What is sent must not become less.
fn sizes(sidecars: usize, f: &Figures, put: &mut impl FnMut(String, f64, Bound)) {
    let expected = [
        ("MiB received", f.mib_received, 2.03),
        ("clusters", f.clusters as f64, 1004.0),
        ("endpoint sets", f.endpoint_sets as f64, 1000.0),
        ("listeners", f.listeners as f64, 3.0),
        ("routes", f.routes as f64, 1.0),
    ];
    for (what, measured, value) in expected {
        put(format!("{sidecars}: {what}"), measured, Bound::About(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_say_what_is_good() {
        let check = |bound, measured, met| {
            let name = String::new();
            assert_eq!(Target { name, measured, bound }.is_met(), met, "{measured} {bound}");
        };
        check(Bound::AtMost(2.0), 2.0, true);
        check(Bound::AtMost(2.0), 2.1, false);
        check(Bound::Exactly(10.0), 9.0, false);
        check(Bound::About(2.0), 1.6, true);
        check(Bound::About(2.0), 1.4, false);
    }
}
