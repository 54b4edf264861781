//! Ratios of a report against recorded ones.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// A ratio that grew by more than this factor is a regression; less is noise.
const NOISE: f64 = 1.3;
/// Ratios that differ by less than this are the same, however small they are.
const SMALL: f64 = 0.02;

/// What of a report is compared.
#[derive(Deserialize)]
struct Ratios {
    ratios: BTreeMap<String, f64>,
    /// Whether less was measured on purpose.
    #[serde(default)]
    quick: bool,
}

fn read(path: &Path) -> Result<Ratios> {
    let text = std::fs::read_to_string(path).with_context(|| format!("no ratios in {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))
}

/// Compares; with `update`, records the report's ratios instead.
pub fn run(report: &Path, recorded: &Path, update: bool) -> Result<()> {
    let now = read(report).context("run `make bench` first")?;
    if update {
        ensure!(
            !now.quick,
            "only a whole run is recorded: run `make bench` without BENCH=quick"
        );
        let text = serde_json::to_string_pretty(&serde_json::json!({ "ratios": now.ratios }))?;
        return std::fs::write(recorded, text + "\n").with_context(|| format!("cannot write {}", recorded.display()));
    }
    let before = read(recorded)?;
    let (mut worse, mut missing) = (0, 0);
    println!("{:<40} {:>9} {:>9}", "", "recorded", "now");
    for (name, before) in &before.ratios {
        let Some(now_is) = now.ratios.get(name) else {
            missing += usize::from(!now.quick);
            println!(
                "{name:<40} {before:>9.3} {:>9} {}",
                "-",
                if now.quick { "" } else { "NOT MEASURED" }
            );
            continue;
        };
        let verdict = if regressed(*before, *now_is) {
            worse += 1;
            "WORSE"
        } else {
            ""
        };
        println!("{name:<40} {before:>9.3} {now_is:>9.3} {verdict}");
    }
    if missing > 0 {
        bail!("{missing} ratios were recorded and not measured now; see target/bench/report.md");
    }
    if worse > 0 {
        bail!("{worse} ratios are worse than recorded, beyond noise; see target/bench/report.md");
    }
    Ok(())
}

fn regressed(before: f64, now: f64) -> bool {
    now > before * NOISE && now - before > SMALL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_no_regression() {
        let check = |before, now, expected| assert_eq!(regressed(before, now), expected, "{before} {now}");
        check(1.0, 1.25, false);
        check(1.0, 1.4, true);
        check(0.01, 0.02, false);
        check(2.0, 1.0, false);
    }
}
