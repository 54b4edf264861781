//! The golden sets, where they are at hand: every case passes but those that are known to differ.
#![allow(clippy::unwrap_used)]

use conformance::report::{Case, Outcome};
use conformance::{default_data, kube_api, run};

/// No case fails but the known ones (a name, or its beginning), and each of those exists.
fn check(set: &str, cases: &[Case], known: &[&str]) {
    let is_known = |case: &Case| known.iter().any(|start| case.name.starts_with(start));
    let failed: Vec<String> = cases
        .iter()
        .filter(|case| !is_known(case))
        .filter_map(|case| match &case.outcome {
            Outcome::Failed(detail) => Some(format!("{}: {detail}", case.name)),
            Outcome::Passed | Outcome::Unsupported(_) => None,
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {set} fail:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

fn check_set(set: &str, known: &[&str]) {
    let data = default_data();
    if !data.join(set).is_dir() {
        println!(
            "skipped: no golden data in {} (set TRYSAIL_CONFORMANCE)",
            data.display()
        );
        return;
    }
    let found = run(set, &data).unwrap();
    assert!(!found.cases.is_empty(), "{set} has no cases");
    check(set, &found.cases, known);
}

#[test]
fn analyzers() {
    check_set("analyzers", &[]);
}

#[test]
fn authz() {
    check_set("authz", &[]);
}

#[test]
fn bootstrap() {
    check_set("bootstrap", &[]);
}

#[test]
fn injection() {
    check_set("injection", &[]);
}

/// The older state of Istio's charts sets GOMAXPROCS, which the state that is followed (and a program that is not Go)
/// does not.
#[test]
fn install() {
    check_set(
        "install",
        &["manifest/pilot_default", "manifest/pilot_override_kubernetes"],
    );
}

#[test]
fn iptables() {
    check_set("iptables", &[]);
}

#[test]
fn istioctl() {
    check_set("istioctl", &[]);
}

#[test]
fn validation() {
    check_set("validation", &[]);
}

/// Facts of the recording's own machine, date or timing, and a LoadBalancer that gets an address here;
/// docs/conformance.md has the reason of each.
const RECORDED_ELSEWHERE: [&str; 10] = [
    "apply/status-subresource",
    "crud/configmap-lifecycle",
    "crud/limitrange-resourcequota",
    "crud/service-loadbalancer",
    "discovery/version-and-health",
    "flow/pod-lifecycle-on-a-node",
    "list/limit-continue",
    "table/pods",
    "table/services",
    "workloads/job",
];

#[test]
fn stories_of_kube_api() {
    let data = default_data();
    if !data.join("kube-api").is_dir() {
        println!(
            "skipped: no golden data in {} (set TRYSAIL_CONFORMANCE)",
            data.display()
        );
        return;
    }
    let cases = kube_api::run_stories(&data, |_| true).unwrap();
    check("kube-api", &cases, &RECORDED_ELSEWHERE);
}
