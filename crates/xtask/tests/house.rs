//! The house is as ARCHITECTURE.md says: every crate has its row, keeps out of rooms it must not know, and every
//! invariant names tests that exist.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates of Kubernetes' and HTTP's IO.
const IO: &[&str] = &["kube", "hyper", "axum", "tonic", "tokio", "notify", "nix"];
/// What only the local Kubernetes is made of.
const DRYDOCK: &[&str] = &["drydock-api", "drydock-controllers", "drydock-node", "drydock-store"];
/// What only Istio's control plane is made of.
const TRYSAIL: &[&str] = &[
    "ads",
    "analyze",
    "api",
    "ca",
    "capture",
    "cluster",
    "inject",
    "install",
    "mesh",
    "revision",
    "status",
    "translate",
    "xds",
];

/// What a crate must not depend on outside of tests: the third column of the table.
const FORBIDDEN: &[(&str, &[&[&str]])] = &[
    ("xds", &[&["kube", "k8s-openapi"], TRYSAIL, DRYDOCK]),
    ("api", &[IO, DRYDOCK]),
    ("revision", &[IO, &["xds"], DRYDOCK]),
    ("mesh", &[IO, &["xds"], DRYDOCK]),
    ("translate", &[IO, &["ads", "cluster"], DRYDOCK]),
    ("ads", &[&["mesh", "translate", "api", "kube", "k8s-openapi"], DRYDOCK]),
    ("ca", &[&["mesh", "kube", "k8s-openapi"], DRYDOCK]),
    ("listen", &[&["kube", "k8s-openapi"], TRYSAIL, DRYDOCK]),
    ("gotemplate", &[IO, TRYSAIL, DRYDOCK]),
    ("inject", &[IO, &["http"], DRYDOCK]),
    ("analyze", &[IO, DRYDOCK]),
    ("cluster", &[&["mesh", "translate", "ads", "xds"], DRYDOCK]),
    ("install", &[&["mesh", "translate", "ads", "xds", "cluster"], DRYDOCK]),
    ("status", &[&["mesh", "translate", "ads", "clap"], DRYDOCK]),
    ("capture", &[IO, TRYSAIL, DRYDOCK]),
    ("istiod", &[&["kube", "k8s-openapi"], DRYDOCK]),
    ("istioctl", &[DRYDOCK]),
    ("pilot-agent", &[&["kube", "k8s-openapi", "mesh", "translate"], DRYDOCK]),
    ("drydock-store", &[IO_BUT_TOKIO, TRYSAIL]),
    ("drydock-api", &[TRYSAIL, &["drydock-controllers", "drydock-node"]]),
    ("drydock-controllers", &[TRYSAIL, DRYDOCK]),
    ("drydock-node", &[TRYSAIL, DRYDOCK]),
    ("drydock", &[TRYSAIL]),
];
/// The store waits for its disk, so it knows the runtime, and nothing else of IO.
const IO_BUT_TOKIO: &[&str] = &["kube", "hyper", "axum", "tonic"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn architecture() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// Crates of the workspace, each with its dependencies outside of tests.
fn crates() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let known = dependencies
                .filter(|one| one["kind"] != "dev")
                .map(|one| text(&one["name"]));
            (text(&package["name"]), known.collect())
        })
        .collect()
}

#[test]
fn no_room_knows_what_it_must_not() {
    let crates = crates();
    for (name, forbidden) in FORBIDDEN {
        let known = crates.get(*name).unwrap_or_else(|| panic!("there is no crate {name}"));
        for other in forbidden.iter().copied().flatten().filter(|other| *other != name) {
            assert!(!known.contains(*other), "{name} must not depend on {other}");
        }
    }
}

#[test]
fn every_room_is_in_the_table() {
    let rows: String = architecture().lines().filter(|line| line.starts_with('|')).collect();
    for name in crates().keys() {
        assert!(
            rows.contains(&format!("`{name}`")),
            "ARCHITECTURE.md has no row for {name}"
        );
    }
}

#[test]
fn invariants_name_tests_that_exist() {
    let architecture = architecture();
    let (_, invariants) = architecture.split_once("## Invariants").unwrap();
    let mut held = 0;
    for reference in invariants.lines().filter_map(|line| line.trim().strip_prefix("- `")) {
        let (file, name) = reference.trim_end_matches('`').split_once(": ").unwrap();
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(source.contains(&format!("fn {name}(")), "{file} has no test {name}");
        held += 1;
    }
    assert!(held > 0, "no invariant names a test");
}
