//! `values.schema.json` of every chart: written from the charts' own defaults, kept by Helm.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use install::assets::Assets;
use install::schema::Schema;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/charts")
}

/// `UPDATE=1 cargo test -p install --test schema` writes the files anew.
#[test]
fn schemas_are_those_of_the_defaults() {
    let assets = Assets::embedded();
    let shared = Schema::of_control_plane(&assets).to_json();
    let gateway = Schema::of_gateway(&assets).to_json();
    for (chart, text) in [
        ("base", &shared),
        ("istiod", &shared),
        ("revisiontags", &shared),
        ("gateways/istio-ingress", &shared),
        ("gateways/istio-egress", &shared),
        ("gateway", &gateway),
    ] {
        let file = folder().join(chart).join("values.schema.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, text).unwrap();
        }
        let stored = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            stored == *text,
            "{chart}: run UPDATE=1 cargo test -p install --test schema"
        );
    }
}

/// Renders with helm, if there is one; what it says when it refuses.
fn check(chart: &str, setting: &str, refusal: Option<&str>) {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bin/helm");
    let helm = std::env::var_os("HELM").map_or(built, PathBuf::from);
    if !helm.exists() {
        println!("skipped: no helm at {}", helm.display());
        return;
    }
    let output = Command::new(helm)
        .args(["template", "mesh"])
        .arg(folder().join(chart))
        .args(["-n", "istio-system", "--set", setting])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), refusal.is_none(), "{chart} {setting}: {said}");
    if let Some(refusal) = refusal {
        assert!(said.contains(refusal), "{chart} {setting}: {said}");
    }
}

#[test]
fn helm_refuses_mistakes() {
    check(
        "istiod",
        "revison=canary",
        Some("additional properties 'revison' not allowed"),
    );
    check(
        "istiod",
        "revision=1.24.0",
        Some("at '/revision': '1.24.0' does not match pattern"),
    );
    check(
        "istiod",
        "revision=default",
        Some("revision \"default\" is the one without a name"),
    );
    check(
        "istiod",
        "pilot.autoscaleMin=two",
        Some("at '/pilot/autoscaleMin': got string, want"),
    );
    check(
        "istiod",
        "autoscaleEnabled=yes",
        Some("at '/autoscaleEnabled': got string, want"),
    );
    check(
        "istiod",
        "global.proxy.logLevle=debug",
        Some("additional properties 'logLevle' not allowed"),
    );
    check(
        "istiod",
        "global.imagePullPolicy=Sometimes",
        Some("at '/global/imagePullPolicy': value must be one of"),
    );
    check(
        "base",
        "base.excludedCRDs=all",
        Some("at '/base/excludedCRDs': got string, want"),
    );
    check("revisiontags", "revisionTags={not_a_tag}", Some("at '/revisionTags/0'"));
    check(
        "gateway",
        "replicaCout=2",
        Some("additional properties 'replicaCout' not allowed"),
    );
    check(
        "gateway",
        "service.type=Balancer",
        Some("at '/service/type': value must be one of"),
    );
}

#[test]
fn helm_takes_what_charts_take() {
    check("istiod", "pilot.env.PILOT_ANYTHING=true", None);
    check("istiod", "meshConfig.accessLogFile=/dev/stdout", None);
    check("istiod", "rollingMaxSurge=1", None);
    check("istiod", "traceSampling=50", None);
    check("istiod", "global.ofAChartAround=1", None);
    check("base", "pilot.env.A=b", None);
    check("gateway", "global.imageRegistry=mine", None);
    check("gateway", "podDisruptionBudget.minAvailable=1", None);
    check("gateway", "autoscaling.targetMemoryUtilizationPercentage=80", None);
}
