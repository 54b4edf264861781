//! The golden sets, where they are at hand: every case passes but those that are known to differ, and those do.
#![allow(clippy::unwrap_used)]

use conformance::report::{Case, Outcome};
use conformance::{default_data, kube_api, run};

/// Exactly the known cases differ, and none lacks its support; so a known one that passes is told too.
fn check(set: &str, cases: &[Case], known: &[&str]) {
    let mut wrong = Vec::new();
    for case in cases {
        let is_known = known.contains(&case.name.as_str());
        match &case.outcome {
            Outcome::Passed if is_known => wrong.push(format!("{}: passes, though known to differ", case.name)),
            Outcome::Failed(detail) if !is_known => wrong.push(format!("{}: {detail}", case.name)),
            Outcome::Unsupported(reason) => wrong.push(format!("{}: unsupported: {reason}", case.name)),
            Outcome::Passed | Outcome::Failed(_) => {}
        }
    }
    let exists = |name: &str| cases.iter().any(|case| case.name == name);
    wrong.extend(
        known
            .iter()
            .filter(|name| !exists(name))
            .map(|name| format!("{name}: there is no such case")),
    );
    assert!(
        wrong.is_empty(),
        "{} of {set} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
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
