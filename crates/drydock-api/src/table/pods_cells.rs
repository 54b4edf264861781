//! Cells of pods, nodes and events.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{age, age_of, short_duration};
use crate::meta;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// What the containers of a pod amount to.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

fn finished(status: &Value) -> Option<Timestamp> {
    text(status, "/lastState/terminated/finishedAt").parse().ok()
}

/// A native sidecar: an init container that stays.
fn is_sidecar(pod: &Value, name: &str) -> bool {
    list(pod, "/spec/initContainers")
        .iter()
        .any(|one| one["name"] == name && one["restartPolicy"] == "Always")
}

fn terminated_reason(status: &Value, prefix: &str) -> Option<String> {
    let terminated = status.pointer("/state/terminated")?;
    let reason = terminated["reason"].as_str().unwrap_or_default();
    if !reason.is_empty() {
        return Some(format!("{prefix}{reason}"));
    }
    let signal = terminated["signal"].as_i64().unwrap_or(0);
    Some(match signal {
        0 => format!("{prefix}ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        signal => format!("{prefix}Signal:{signal}"),
    })
}

fn summarize(pod: &Value) -> Summary {
    let phase = text(pod, "/status/phase");
    let mut reason = match text(pod, "/status/reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    let gated = list(pod, "/status/conditions")
        .iter()
        .any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated");
    if gated {
        reason = "SchedulingGated".into();
    }
    let inits = list(pod, "/spec/initContainers");
    let mut summary = Summary {
        ready: 0,
        total: list(pod, "/spec/containers").len()
            + inits.iter().filter(|one| one["restartPolicy"] == "Always").count(),
        reason: String::new(),
        restarts: 0,
        last_restart: None,
    };
    let (mut sidecar_restarts, mut sidecar_last) = (0, None);
    let mut initializing = false;
    for (index, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
        let restarts = status["restartCount"].as_i64().unwrap_or(0);
        summary.restarts += restarts;
        summary.last_restart = summary.last_restart.max(finished(status));
        let sidecar = is_sidecar(pod, status["name"].as_str().unwrap_or_default());
        if sidecar {
            sidecar_restarts += restarts;
            sidecar_last = sidecar_last.max(finished(status));
        }
        let exited_well = status
            .pointer("/state/terminated/exitCode")
            .is_some_and(|code| code == 0);
        if exited_well {
            continue;
        }
        if sidecar && status["started"] == true {
            if status["ready"] == true {
                summary.ready += 1;
            }
            continue;
        }
        let waiting = text(status, "/state/waiting/reason");
        reason = match terminated_reason(status, "Init:") {
            Some(reason) => reason,
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{}", inits.len()),
        };
        initializing = true;
        break;
    }
    let initialized = list(pod, "/status/conditions")
        .iter()
        .any(|condition| condition["type"] == "Initialized" && condition["status"] == "True");
    if !initializing || initialized {
        (summary.restarts, summary.last_restart) = (sidecar_restarts, sidecar_last);
        let mut running = false;
        for status in list(pod, "/status/containerStatuses").iter().rev() {
            summary.restarts += status["restartCount"].as_i64().unwrap_or(0);
            summary.last_restart = summary.last_restart.max(finished(status));
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if let Some(terminated) = terminated_reason(status, "") {
                reason = terminated;
            } else if status["ready"] == true && status.pointer("/state/running").is_some() {
                running = true;
                summary.ready += 1;
            }
        }
        if reason == "Completed" && running {
            let ready = list(pod, "/status/conditions")
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }
    if meta::is_deleting(pod) {
        if text(pod, "/status/reason") == "NodeLost" {
            reason = "Unknown".into();
        } else if !matches!(phase, "Failed" | "Succeeded") {
            reason = "Terminating".into();
        }
    }
    summary.reason = reason;
    summary
}

pub fn pod(pod: &Value) -> Vec<Value> {
    let summary = summarize(pod);
    let restarts = match summary.last_restart {
        Some(then) if summary.restarts > 0 => {
            let ago = short_duration(Timestamp::now().as_second() - then.as_second());
            format!("{} ({ago} ago)", summary.restarts)
        }
        _ => summary.restarts.to_string(),
    };
    let gates = list(pod, "/spec/readinessGates");
    let gates_text = if gates.is_empty() {
        "<none>".to_owned()
    } else {
        let met = gates
            .iter()
            .filter(|gate| {
                list(pod, "/status/conditions")
                    .iter()
                    .any(|condition| condition["type"] == gate["conditionType"] && condition["status"] == "True")
            })
            .count();
        format!("{met}/{}", gates.len())
    };
    let ip = match list(pod, "/status/podIPs").first() {
        Some(first) => text(first, "/ip"),
        None => text(pod, "/status/podIP"),
    };
    vec![
        meta::name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod).into(),
        or_none(ip),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        gates_text.into(),
    ]
}

pub fn node(node: &Value) -> Vec<Value> {
    let ready = list(node, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == "Ready");
    let mut status = match ready {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.pointer("/spec/unschedulable") == Some(&json!(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<String> = Vec::new();
    for (key, value) in node
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if let Some(role) = key
            .strip_prefix("node-role.kubernetes.io/")
            .filter(|role| !role.is_empty())
        {
            roles.push(role.to_owned());
        } else if key == "kubernetes.io/role" {
            roles.push(value.as_str().unwrap_or_default().to_owned());
        }
    }
    roles.sort();
    let address = |kind: &str| {
        let found = list(node, "/status/addresses")
            .iter()
            .find(|address| address["type"] == kind);
        found
            .and_then(|address| address["address"].as_str())
            .unwrap_or("<none>")
            .to_owned()
    };
    let info = |field: &str| {
        let text = node["status"]["nodeInfo"][field].as_str().unwrap_or_default();
        if text.is_empty() {
            "<unknown>".to_owned()
        } else {
            text.to_owned()
        }
    };
    vec![
        meta::name(node).into(),
        status.into(),
        if roles.is_empty() {
            "<none>".into()
        } else {
            roles.join(",").into()
        },
        age(node).into(),
        text(node, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        info("osImage").into(),
        info("kernelVersion").into(),
        info("containerRuntimeVersion").into(),
    ]
}

/// `events.k8s.io` names some fields differently; both forms are understood.
pub fn event(event: &Value) -> Vec<Value> {
    let pick = |fields: &[&str]| {
        fields
            .iter()
            .map(|field| text(event, field))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let since = |time: &str| age_of(time);
    let event_time = pick(&["/eventTime"]);
    let mut first = pick(&["/firstTimestamp", "/deprecatedFirstTimestamp"]);
    let mut last = pick(&["/lastTimestamp", "/deprecatedLastTimestamp"]);
    if first.is_empty() {
        first.clone_from(&event_time);
    }
    let series = pick(&["/series/lastObservedTime"]);
    if !series.is_empty() {
        last = series;
    } else if last.is_empty() {
        last.clone_from(&first);
    }
    let count = ["/series/count", "/count", "/deprecatedCount"]
        .iter()
        .filter_map(|pointer| event.pointer(pointer).and_then(Value::as_i64))
        .find(|count| *count > 0)
        .unwrap_or(1);
    let object = if event["involvedObject"].is_object() {
        &event["involvedObject"]
    } else {
        &event["regarding"]
    };
    let (kind, name) = (text(object, "/kind").to_ascii_lowercase(), text(object, "/name"));
    let target = if kind.is_empty() {
        name.to_owned()
    } else {
        format!("{kind}/{name}")
    };
    let mut component = pick(&["/source/component", "/deprecatedSource/component"]);
    if component.is_empty() {
        component = pick(&["/reportingComponent", "/reportingController"]);
    }
    let host = match pick(&["/source/host", "/deprecatedSource/host"]) {
        host if host.is_empty() => pick(&["/reportingInstance"]),
        host => host,
    };
    let source = if host.is_empty() {
        component
    } else {
        format!("{component}, {host}")
    };
    vec![
        since(&last).into(),
        pick(&["/type"]).into(),
        pick(&["/reason"]).into(),
        target.into(),
        text(object, "/fieldPath").into(),
        source.into(),
        pick(&["/message", "/note"]).trim().into(),
        since(&first).into(),
        count.into(),
        meta::name(event).into(),
    ]
}
