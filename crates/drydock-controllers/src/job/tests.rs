use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut spec = spec;
    spec["template"] = json!({"spec": {"containers": [{"name": "c"}]}});
    let job = json!({"metadata": {"name": "work", "namespace": "ns", "uid": "j"}, "spec": spec, "status": status});
    serde_json::from_value(job).unwrap()
}

/// Pods by words `phase[:index[:ended]]`.
fn seen(text: &str) -> Vec<Arc<Pod>> {
    let pod = |(at, word): (usize, &str)| {
        let mut parts = word.split(':');
        let phase = parts.next().unwrap();
        let index = parts.next().filter(|index| !index.is_empty());
        let ended = parts.next().map(at_text);
        let state = json!({"terminated": {"exitCode": 1, "finishedAt": ended}});
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{at}"), "annotations": index.map(|i| json!({
                    "batch.kubernetes.io/job-completion-index": i,
                }))},
                "status": {"phase": phase, "containerStatuses": ended.as_ref().map(|_| json!([{
                    "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
                }]))},
            }))
            .unwrap(),
        )
    };
    text.split_whitespace().enumerate().map(pod).collect()
}

fn told(plan: &Plan) -> String {
    let mut told = Vec::new();
    if !plan.create.is_empty() {
        let indexes: Vec<_> = plan
            .create
            .iter()
            .map(|i| i.map_or("-".into(), |i| i.to_string()))
            .collect();
        told.push(format!("create {}", indexes.join(" ")));
    }
    if !plan.delete.is_empty() {
        told.push(format!("delete {}", plan.delete.len()));
    }
    told.extend(plan.events.iter().map(|(_, reason, _)| (*reason).to_owned()));
    if plan.remove {
        told.push("remove".into());
    }
    told.join(", ")
}

fn check(spec: Value, pods: &str, expected: &str) {
    let plan = decide(&job(spec.clone(), json!({})), &seen(pods), at(1000));
    assert_eq!(told(&plan), expected, "{spec} with {pods}");
}

#[test]
fn completions_and_parallelism() {
    check(json!({"completions": 1}), "", "create -");
    check(json!({"completions": 1}), "Running", "");
    check(json!({"completions": 1}), "Succeeded", "Completed");
    check(
        json!({"completions": 5, "parallelism": 2}),
        "Succeeded Running",
        "create -",
    );
    check(
        json!({"completions": 3, "parallelism": 9}),
        "Succeeded Running",
        "create -",
    );
    check(
        json!({"completions": 5, "parallelism": 1}),
        "Running Running",
        "delete 1",
    );
    check(
        json!({"completions": 1, "suspend": true}),
        "Running",
        "delete 1, Suspended",
    );
    check(json!({"parallelism": 2}), "Succeeded Running", "");
    check(json!({"parallelism": 2}), "Succeeded", "Completed");
}

#[test]
fn failures_back_off_and_end_the_job() {
    check(json!({"completions": 1, "backoffLimit": 1}), "Failed::995", "");
    check(json!({"completions": 1, "backoffLimit": 1}), "Failed::980", "create -");
    check(
        json!({"completions": 1, "backoffLimit": 1}),
        "Failed::980 Failed::990",
        "BackoffLimitExceeded",
    );
    let plan = decide(
        &job(json!({"completions": 1}), json!({})),
        &seen("Failed::995"),
        at(1000),
    );
    assert_eq!(plan.requeue, Some(Duration::from_secs(5)));
}

#[test]
fn indexed_jobs_do_each_index_once() {
    let spec = json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"});
    check(spec.clone(), "", "create 0 1");
    check(spec.clone(), "Succeeded:0 Running:2", "create 1");
    let plan = decide(
        &job(spec, json!({})),
        &seen("Succeeded:0 Succeeded:1 Succeeded:2 Succeeded:3"),
        at(1000),
    );
    assert_eq!(plan.status.unwrap().completed_indexes.as_deref(), Some("0-3"));
}

#[test]
fn deadline_ends_a_job_that_takes_too_long() {
    let job = job(
        json!({"completions": 1, "activeDeadlineSeconds": 60}),
        json!({"startTime": at_text("900")}),
    );
    assert_eq!(
        told(&decide(&job, &seen("Running"), at(1000))),
        "delete 1, DeadlineExceeded"
    );
    assert_eq!(
        decide(&job, &seen("Running"), at(930)).requeue,
        Some(Duration::from_secs(30))
    );
}

#[test]
fn finished_jobs_are_removed_after_their_time() {
    let conditions = json!([{"type": "Complete", "status": "True", "lastTransitionTime": at_text("900")}]);
    let job = job(
        json!({"completions": 1, "ttlSecondsAfterFinished": 60}),
        json!({"conditions": conditions}),
    );
    assert_eq!(told(&decide(&job, &[], at(1000))), "remove");
    assert_eq!(decide(&job, &[], at(930)).requeue, Some(Duration::from_secs(30)));
}

#[test]
fn counts_never_go_back_and_nothing_is_written_twice() {
    let mut job = job(json!({"completions": 3, "parallelism": 1}), json!({}));
    job.status = decide(&job, &seen("Succeeded Succeeded Running"), at(1000)).status;
    let plan = decide(&job, &seen("Succeeded Running"), at(1010));
    assert_eq!(plan.status, None, "the deleted pod still counts");
}

#[test]
fn pods_carry_the_labels_of_their_job() {
    let made = pod::make(
        &job(json!({"completions": 2, "completionMode": "Indexed"}), json!({})),
        Some(1),
    );
    let labels: Vec<_> = made
        .metadata
        .labels
        .iter()
        .flatten()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        labels,
        [
            "batch.kubernetes.io/controller-uid=j",
            "batch.kubernetes.io/job-completion-index=1",
            "batch.kubernetes.io/job-name=work",
            "controller-uid=j",
            "job-name=work"
        ]
    );
    assert_eq!(made.metadata.generate_name.as_deref(), Some("work-1-"));
    assert_eq!(
        made.spec.unwrap().containers[0].env.as_ref().unwrap()[0].name,
        "JOB_COMPLETION_INDEX"
    );
}

#[test]
fn index_lists_round_trip() {
    for text in ["", "0", "0,1", "0-2,5", "1,3-7,9,10"] {
        assert_eq!(pod::format_indexes(&pod::parse_indexes(text)), text);
    }
}

fn at_text(second: &str) -> String {
    at(second.parse().unwrap()).to_string()
}
