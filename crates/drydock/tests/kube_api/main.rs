//! The recorded stories of a real API server with its controllers and one node, against a whole cluster of ours.
#![allow(clippy::unwrap_used)]

#[path = "../../../conformance/src/kube_api/mod.rs"]
mod kube_api;

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where differences are known, and why.
const KNOWN: [(&str, &str); 0] = [];

fn stories() -> Option<PathBuf> {
    let near = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let root = std::env::var_os("TRYSAIL_CONFORMANCE").map_or(near, PathBuf::from);
    Some(root.join("kube-api")).filter(|folder| folder.is_dir())
}

fn drydock(data_dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_drydock"))
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_stories_are_answered_as_recorded() {
    let Some(data) = stories() else {
        return println!("skipped: the conformance data is not there (TRYSAIL_CONFORMANCE names its folder)");
    };
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: not root");
    }
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("cluster");
    drydock(&data_dir, &["up", "--no-images"]);
    let kubeconfig = std::fs::read_to_string(data_dir.join("kubeconfig")).unwrap();
    let target = kube_api::Target::from_kubeconfig(&kubeconfig).unwrap();
    let only: Vec<String> = std::env::var("STORIES")
        .map(|s| s.split(',').map(str::to_owned).collect())
        .unwrap_or_default();
    let results = kube_api::run_kube_api(&target, &data, |name| {
        only.is_empty() || only.iter().any(|start| name.starts_with(start.as_str()))
    })
    .await;
    drydock(&data_dir, &["reset"]);
    let results = results.unwrap();
    let failed: Vec<_> = results
        .iter()
        .filter(|result| !result.passed() && !KNOWN.iter().any(|(name, _)| result.name == *name))
        .map(|result| format!("{}: {}", result.name, result.failures.join("\n    ")))
        .collect();
    println!(
        "{} stories with {} steps played",
        results.len(),
        results.iter().map(|r| r.steps).sum::<usize>()
    );
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.join("\n"));
}
