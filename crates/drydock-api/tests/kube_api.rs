//! The recorded stories that need no controllers, against a server of our own.
#![allow(clippy::unwrap_used)]

#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the conformance program, which uses all of it"
)]
#[path = "../../conformance/src/kube_api/mod.rs"]
mod kube_api;

use std::{env, path::PathBuf};

use drydock_api::{Config, Server};

/// Stories that wait for controllers, a node or a quota; or that recorded an accident of their machine.
const ELSEWHERE: [&str; 13] = [
    "admission/pod-injection",
    "crud/configmap-lifecycle",
    "crud/endpoints",
    "crud/limitrange-resourcequota",
    "crud/namespace-",
    "crud/service-endpointslice-made",
    "crud/serviceaccount",
    "discovery/version-and-health",
    "list/limit-continue",
    "pods/scheduling-gates",
    "policy/pdb",
    "subresources/status-replace",
    "table/pods",
];

fn stories() -> Option<PathBuf> {
    let near = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let root = env::var_os("TRYSAIL_CONFORMANCE").map_or(near, PathBuf::from);
    let folder = root.join("kube-api");
    folder.is_dir().then_some(folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_stories_are_answered_as_recorded() {
    let Some(data) = stories() else {
        println!("skipped: the conformance data is not there (TRYSAIL_CONFORMANCE names its folder)");
        return;
    };
    let directory = env::temp_dir().join(format!("drydock-stories-{}", std::process::id()));
    let server = Server::start(Config::new(&directory)).await.unwrap();
    let target = kube_api::Target::from_kubeconfig(&server.kubeconfig().unwrap()).unwrap();
    let areas = [
        "admission/",
        "apply/create",
        "auth/",
        "concurrency/",
        "crd/c",
        "crud/",
        "discovery/",
        "dryrun/",
        "fieldvalidation/",
        "kinds/",
        "list/",
        "managedfields/",
        "nodes/",
        "patch/",
        "pods/",
        "policy/",
        "protobuf/",
        "subresources/",
        "table/",
    ];
    let begins = |name: &str, list: &[&str]| list.iter().any(|start| name.starts_with(start));
    let wanted = |name: &str| begins(name, &areas) && !begins(name, &ELSEWHERE);
    let results = kube_api::run_kube_api(&target, &data, wanted).await.unwrap();
    server.shutdown().await;
    std::fs::remove_dir_all(&directory).unwrap();
    let failed: Vec<_> = results
        .iter()
        .filter(|result| !result.passed())
        .map(|result| {
            format!(
                "{} ({} steps): {}",
                result.name,
                result.steps,
                result.failures.join("\n    ")
            )
        })
        .collect();
    println!("{} stories played", results.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
