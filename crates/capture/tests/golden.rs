//! The reference's own golden files, where they are at hand.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

#[path = "../../conformance/src/iptables/mod.rs"]
#[allow(dead_code)]
mod set;

#[test]
fn every_golden_case() {
    let data = std::env::var_os("TRYSAIL_CONFORMANCE").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance")),
        PathBuf::from,
    );
    if !data.join("iptables").exists() {
        println!(
            "skipped: no golden data in {} (set TRYSAIL_CONFORMANCE)",
            data.display()
        );
        return;
    }
    let results = set::run(&data).unwrap();
    let failed: Vec<_> = results.iter().filter(|r| r.outcome.is_err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {} differ: {failed:#?}",
        failed.len(),
        results.len()
    );
}
