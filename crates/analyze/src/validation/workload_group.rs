//! Workload groups.

use api::networking::WorkloadGroup;
use serde_json::Value;

use super::field::{Problems, check_port_number};
use super::service_entry::check_template;

pub(super) fn check(group: &WorkloadGroup, spec: &Value, problems: &mut Problems) {
    check_template("spec.template", &group.template, problems);
    let probe = &spec["probe"];
    for way in ["httpGet", "tcpSocket", "grpc"] {
        if let Some(port) = probe[way]["port"].as_u64() {
            let port = u32::try_from(port).unwrap_or(u32::MAX);
            check_port_number(problems, &format!("spec.probe.{way}.port"), port);
        }
    }
    let scheme = probe["httpGet"]["scheme"].as_str().unwrap_or_default();
    problems.require(
        matches!(scheme, "" | "HTTP" | "HTTPS"),
        "spec.probe.httpGet.scheme",
        "scheme must be one of [HTTP, HTTPS]",
    );
}
