//! Cells of workloads.

use serde_json::{Value, json};

use super::{age, age_of, short_duration};
use crate::{kinds::selector_text, meta};

fn count(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn containers(object: &Value, template: &str, field: &str) -> Value {
    let list = object
        .pointer(&format!("{template}/spec/containers"))
        .and_then(Value::as_array);
    let names: Vec<&str> = list
        .into_iter()
        .flatten()
        .filter_map(|one| one[field].as_str())
        .collect();
    names.join(",").into()
}

fn selector(object: &Value) -> Value {
    match selector_text(&object["spec"]["selector"]) {
        text if text.is_empty() => "<none>".into(),
        text => text.into(),
    }
}

pub fn cells(kind: &str, object: &Value) -> Vec<Value> {
    let template = if kind == "CronJob" {
        "/spec/jobTemplate/spec/template"
    } else {
        "/spec/template"
    };
    let (names, images) = (
        containers(object, template, "name"),
        containers(object, template, "image"),
    );
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let mut cells = vec![json!(meta::name(object))];
    match kind {
        "Deployment" => cells.extend([
            format!("{}/{replicas}", count(object, "/status/readyReplicas")).into(),
            count(object, "/status/updatedReplicas").into(),
            count(object, "/status/availableReplicas").into(),
            age(object).into(),
            names,
            images,
            selector(object),
        ]),
        "ReplicaSet" | "ReplicationController" => {
            let selector = if kind == "ReplicationController" {
                label_text(&object["spec"]["selector"])
            } else {
                selector(object)
            };
            cells.extend([
                replicas.into(),
                count(object, "/status/replicas").into(),
                count(object, "/status/readyReplicas").into(),
                age(object).into(),
                names,
                images,
                selector,
            ]);
        }
        "StatefulSet" => cells.extend([
            format!("{}/{replicas}", count(object, "/status/readyReplicas")).into(),
            age(object).into(),
            names,
            images,
        ]),
        "DaemonSet" => cells.extend([
            count(object, "/status/desiredNumberScheduled").into(),
            count(object, "/status/currentNumberScheduled").into(),
            count(object, "/status/numberReady").into(),
            count(object, "/status/updatedNumberScheduled").into(),
            count(object, "/status/numberAvailable").into(),
            label_text(
                object
                    .pointer("/spec/template/spec/nodeSelector")
                    .unwrap_or(&Value::Null),
            ),
            age(object).into(),
            names,
            images,
            selector(object),
        ]),
        "Job" => {
            cells.extend(job(object));
            cells.extend([age(object).into(), names, images, selector(object)]);
        }
        "CronJob" => {
            let zone = text(object, "/spec/timeZone");
            let last = text(object, "/status/lastScheduleTime");
            let suspended = object.pointer("/spec/suspend") == Some(&json!(true));
            let active = object
                .pointer("/status/active")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            let last = if last.is_empty() {
                "<none>".to_owned()
            } else {
                age_of(last)
            };
            cells.extend([
                text(object, "/spec/schedule").into(),
                if zone.is_empty() { "<none>".into() } else { zone.into() },
                if suspended { "True".into() } else { "False".into() },
                active.into(),
                last.into(),
                age(object).into(),
                names,
                images,
                "<none>".into(),
            ]);
        }
        "ControllerRevision" => {
            let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            let owner = owners.into_iter().flatten().find(|owner| owner["controller"] == true);
            let owner = owner.map_or("<none>".to_owned(), |owner| {
                let group = text(owner, "/apiVersion")
                    .split_once('/')
                    .map_or("", |(group, _)| group);
                let kind = text(owner, "/kind").to_ascii_lowercase();
                let kind = if group.is_empty() {
                    kind
                } else {
                    format!("{kind}.{group}")
                };
                format!("{kind}/{}", text(owner, "/name"))
            });
            cells.extend([owner.into(), count(object, "/revision").into(), age(object).into()]);
        }
        _ => cells.push(age(object).into()),
    }
    cells
}

/// A plain label map as `a=b,c=d`, `<none>` if empty.
pub fn label_text(labels: &Value) -> Value {
    let mut pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    if pairs.is_empty() {
        "<none>".into()
    } else {
        pairs.join(",").into()
    }
}

/// Status, completions, duration.
fn job(job: &Value) -> [Value; 3] {
    let succeeded = count(job, "/status/succeeded");
    let completions = match job.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None => match job.pointer("/spec/parallelism").and_then(Value::as_i64).unwrap_or(0) {
            parallelism if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
            _ => format!("{succeeded}/1"),
        },
    };
    let start: Option<jiff::Timestamp> = text(job, "/status/startTime").parse().ok();
    let end: Option<jiff::Timestamp> = text(job, "/status/completionTime").parse().ok();
    let duration = start.map_or(String::new(), |start| {
        let end = end.unwrap_or_else(jiff::Timestamp::now);
        short_duration(end.as_second() - start.as_second())
    });
    let has = |kind: &str| {
        let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
        conditions
            .into_iter()
            .flatten()
            .any(|one| one["type"] == kind && one["status"] == "True")
    };
    let status = if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if meta::is_deleting(job) {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    [status.into(), completions.into(), duration.into()]
}
