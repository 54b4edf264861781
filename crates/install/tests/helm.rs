//! Real helm and this crate must read the charts alike. Skipped, with a line that says so, without a helm binary
//! (`bin/helm`, or what the environment variable HELM names).
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use install::assets::Assets;
use install::chart::{Chart, Release};
use install::values::{scalar, set};
use install::yaml;
use serde_json::Value;

fn helm() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bin/helm");
    let path = std::env::var_os("HELM").map_or(built, PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no helm at {}", path.display());
    None
}

fn check(chart: &str, settings: &[&str]) {
    let Some(helm) = helm() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../manifests/charts")
        .join(chart);
    let mut command = Command::new(helm);
    command
        .args(["template", "mesh"])
        .arg(folder)
        .args(["-n", "istio-system"]);
    let mut values = serde_json::json!({});
    for setting in settings {
        command.args(["--set", setting]);
        let (path, text) = setting.split_once('=').unwrap();
        set(&mut values, path, scalar(path, text)).unwrap();
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = yaml::documents(&String::from_utf8_lossy(&output.stdout)).unwrap();

    let assets = Assets::embedded();
    let release = Release {
        name: "mesh",
        namespace: "istio-system",
        is_upgrade: false,
    };
    let ours = Chart::load(&assets, chart).unwrap().render(&release, &values).unwrap();
    let key = |object: &Value| (object["kind"].to_string(), object["metadata"]["name"].to_string());
    let sorted = |mut objects: Vec<Value>| {
        objects.sort_by_key(key);
        objects.iter().map(yaml::to_sorted).collect::<Vec<_>>()
    };
    let ours = sorted(ours.into_iter().map(|object| object.0).collect());
    for (ours, theirs) in ours.iter().zip(&sorted(theirs.clone())) {
        assert_eq!(ours, theirs, "{chart} {settings:?}");
    }
    assert_eq!(ours.len(), theirs.len(), "{chart} {settings:?}");
}

#[test]
fn control_plane() {
    check("istiod", &[]);
    check(
        "istiod",
        &[
            "revision=canary",
            "revisionTags={default,prod}",
            "global.networkPolicy.enabled=true",
        ],
    );
    check(
        "istiod",
        &[
            "pilot.env.A=true",
            "pilot.autoscaleMin=2",
            "meshConfig.accessLogFile=/dev/stdout",
        ],
    );
    check("revisiontags", &["revision=canary", "revisionTags={default,prod}"]);
}

#[test]
fn shared_objects() {
    check(
        "base",
        &[
            "defaultRevision=canary",
            "base.excludedCRDs={gateways.networking.istio.io}",
        ],
    );
}

#[test]
fn gateways() {
    check(
        "gateway",
        &["revision=canary", "service.selectorLabels.x=y", "networkGateway=n1"],
    );
    check("gateways/istio-ingress", &["revision=canary"]);
    check(
        "gateways/istio-egress",
        &["gateways.istio-egressgateway.autoscaleMin=2"],
    );
}
