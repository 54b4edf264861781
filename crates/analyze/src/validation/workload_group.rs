//! Workload groups.

use api::networking::WorkloadGroup;
use serde_json::Value;

use super::field::{Problems, check_labels, check_port_number};

pub(super) fn check(group: &WorkloadGroup, spec: &Value, problems: &mut Problems) {
    problems.require(!spec["template"].is_null(), "spec.template", "a template is required");
    if let Some(metadata) = &group.metadata {
        check_labels(problems, "spec.metadata.labels", &metadata.labels);
    }
    let probe = &spec["probe"];
    if probe.is_null() {
        return;
    }
    for seconds in [
        "periodSeconds",
        "initialDelaySeconds",
        "timeoutSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        problems.require(
            probe[seconds].as_i64().is_none_or(|number| number >= 0),
            format!("spec.probe.{seconds}"),
            "must not be negative",
        );
    }
    for way in ["httpGet", "tcpSocket", "grpc"] {
        let port = &probe[way]["port"];
        // The definition says where it must be.
        if way == "grpc" && port.is_null() || probe[way].is_null() {
            continue;
        }
        let port = port
            .as_u64()
            .and_then(|port| u32::try_from(port).ok())
            .unwrap_or_default();
        check_port_number(problems, &format!("spec.probe.{way}.port"), port);
    }
    let ways = ["httpGet", "tcpSocket", "grpc", "exec"];
    problems.require(
        ways.iter().any(|way| !probe[*way].is_null()),
        "spec.probe",
        format!("one of {} is required", ways.join(", ")),
    );
    let scheme = probe["httpGet"]["scheme"].as_str().unwrap_or_default();
    problems.require(
        matches!(scheme, "" | "HTTP" | "HTTPS"),
        "spec.probe.httpGet.scheme",
        "scheme must be one of [HTTP, HTTPS]",
    );
    for header in probe["httpGet"]["httpHeaders"].as_array().into_iter().flatten() {
        let name = header["name"].as_str().unwrap_or_default();
        problems.require(
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "spec.probe.httpGet.httpHeaders",
            format!("{name:?} is no name of a header"),
        );
    }
    let command = &probe["exec"];
    problems.require(
        command.is_null() || command["command"].as_array().is_some_and(|words| !words.is_empty()),
        "spec.probe.exec.command",
        "a command is required",
    );
}
