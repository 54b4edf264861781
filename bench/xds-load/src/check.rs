//! Ratios of a report against recorded ones.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A ratio that grew by more than this factor is a regression; less is noise.
const NOISE: f64 = 1.3;
/// Ratios that differ by less than this are the same, however small they are.
const SMALL: f64 = 0.02;

/// What of a report is compared.
#[derive(Deserialize)]
struct Ratios {
    ratios: BTreeMap<String, f64>,
}

fn read(path: &Path) -> Result<BTreeMap<String, f64>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("no ratios in {}", path.display()))?;
    let ratios: Ratios = serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))?;
    Ok(ratios.ratios)
}

/// Compares; with `update`, records the report's ratios instead.
pub fn run(report: &Path, recorded: &Path, update: bool) -> Result<()> {
    let now = read(report).context("run `make bench` first")?;
    if update {
        let text = serde_json::to_string_pretty(&serde_json::json!({ "ratios": now }))?;
        return std::fs::write(recorded, text + "\n").with_context(|| format!("cannot write {}", recorded.display()));
    }
    let before = read(recorded)?;
    let mut worse = 0;
    println!("{:<40} {:>9} {:>9}", "", "recorded", "now");
    for (name, before) in &before {
        // A quick run measures less.
        let Some(now) = now.get(name) else { continue };
        let verdict = if regressed(*before, *now) {
            worse += 1;
            "WORSE"
        } else {
            ""
        };
        println!("{name:<40} {before:>9.3} {now:>9.3} {verdict}");
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
