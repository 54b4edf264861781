use serde_json::{Value, json};

use super::*;

fn cron(spec: Value, last: Option<&str>) -> CronJob {
    let mut spec = spec;
    spec["schedule"] = json!("*/10 * * * *");
    spec["jobTemplate"] = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}});
    let cron = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec, "status": last.map(|time| json!({"lastScheduleTime": time}))});
    serde_json::from_value(cron).unwrap()
}

/// Jobs by letters: r(uns), c(omplete), f(ailed); older first.
fn jobs(text: &str) -> Vec<Arc<Job>> {
    let job = |(n, kind): (usize, char)| {
        let (condition, completed) = match kind {
            'c' => (
                json!([{"type": "Complete", "status": "True"}]),
                json!("2026-01-01T00:30:00Z"),
            ),
            'f' => (json!([{"type": "Failed", "status": "True"}]), Value::Null),
            _ => (Value::Null, Value::Null),
        };
        let name = format!("{kind}{n}");
        let created = format!("2026-01-01T00:{n:02}:00Z");
        let value = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": created}, "status": {"conditions": condition, "completionTime": completed}});
        Arc::new(serde_json::from_value(value).unwrap())
    };
    text.chars().enumerate().map(job).collect()
}

fn check(spec: Value, last: Option<&str>, owned: &str, now: &str, expected: &str) {
    let plan = decide(&cron(spec, last), &jobs(owned), now.parse().unwrap());
    let mut told: Vec<String> = plan.events.iter().map(|(_, reason, _)| (*reason).to_owned()).collect();
    told.extend(
        plan.create
            .iter()
            .map(|job| format!("create {}", job.metadata.annotations.as_ref().unwrap()[SCHEDULED_AT])),
    );
    told.extend(
        plan.delete
            .iter()
            .map(|job| format!("delete {}", meta::name(&job.metadata))),
    );
    told.extend(plan.requeue.map(|wait| format!("again in {} s", wait.as_secs())));
    assert_eq!(told.join(", "), expected);
}

#[test]
fn jobs_come_when_they_are_due() {
    let none = || json!({});
    check(none(), None, "", "2026-01-01T00:09:00Z", "again in 60 s");
    check(
        none(),
        None,
        "",
        "2026-01-01T00:10:00Z",
        "create 2026-01-01T00:10:00Z, again in 600 s",
    );
    check(
        none(),
        Some("2026-01-01T00:10:00Z"),
        "r",
        "2026-01-01T00:10:01Z",
        "again in 599 s",
    );
    // Of several that were missed only the last.
    check(
        none(),
        None,
        "",
        "2026-01-01T05:05:00Z",
        "create 2026-01-01T05:00:00Z, again in 300 s",
    );
    check(
        json!({"startingDeadlineSeconds": 60}),
        None,
        "",
        "2026-01-01T05:05:00Z",
        "again in 300 s",
    );
    check(json!({"suspend": true}), None, "", "2026-01-01T05:05:00Z", "");
    check(
        json!({"timeZone": "Mars/Base"}),
        None,
        "",
        "2026-01-01T05:05:00Z",
        "UnknownTimeZone",
    );
}

#[test]
fn running_jobs_count_as_asked() {
    let at = "2026-01-01T00:10:00Z";
    check(
        json!({"concurrencyPolicy": "Forbid"}),
        None,
        "r",
        at,
        "JobAlreadyActive, again in 600 s",
    );
    check(
        json!({"concurrencyPolicy": "Replace"}),
        None,
        "r",
        at,
        "create 2026-01-01T00:10:00Z, delete r0, again in 600 s",
    );
    check(
        json!({"concurrencyPolicy": "Allow"}),
        None,
        "r",
        at,
        "create 2026-01-01T00:10:00Z, again in 600 s",
    );
}

#[test]
fn a_few_finished_ones_are_kept() {
    let last = Some("2026-01-01T00:10:00Z");
    check(
        json!({}),
        last,
        "cccccff",
        "2026-01-01T00:10:00Z",
        "delete c0, delete c1, delete f5, again in 600 s",
    );
    check(
        json!({"successfulJobsHistoryLimit": 0}),
        last,
        "cr",
        "2026-01-01T00:10:00Z",
        "delete c0, again in 600 s",
    );
}

#[test]
fn the_status_tells_what_runs() {
    let plan = decide(
        &cron(json!({}), Some("2026-01-01T00:10:00Z")),
        &jobs("cr"),
        "2026-01-01T00:10:00Z".parse().unwrap(),
    );
    let status = plan.status.unwrap();
    assert_eq!(status.active.unwrap()[0].name.as_deref(), Some("r1"));
    assert_eq!(
        status.last_successful_time.unwrap().0.to_string(),
        "2026-01-01T00:30:00Z"
    );
}
