//! Job: pods that run to their end, a number of times; removed some time after, if so asked.

mod controller;
mod pod;
#[cfg(test)]
mod tests;

pub use controller::start;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::{meta, pods};

/// Back-off after the first failed pod; doubles with every further one.
const FIRST_BACKOFF: i64 = 10;
/// Longest back-off, in seconds.
const LAST_BACKOFF: i64 = 360;

/// What is to be done for a Job.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Plan {
    /// Pods to make: their completion index, or `None` each when the Job is not indexed.
    pub create: Vec<Option<i32>>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// The status, when it is to be written.
    pub status: Option<JobStatus>,
    /// Events: reason and message, a warning or not.
    pub events: Vec<(bool, &'static str, String)>,
    /// The Job's time after its end is over.
    pub remove: bool,
    /// When to look again.
    pub requeue: Option<Duration>,
}

fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == kind && condition.status == "True")
}

/// The Job has ended, well or not.
#[must_use]
pub fn is_finished(job: &Job) -> bool {
    condition(job, "Complete").is_some() || condition(job, "Failed").is_some()
}

struct Count {
    active: Vec<Arc<Pod>>,
    ready: i32,
    /// On their way out, not ended yet.
    terminating: i32,
    succeeded: i32,
    failed: i32,
    /// Indexes that have succeeded (indexed Jobs).
    done: Vec<i32>,
    last_failure: Option<i64>,
}

fn count(job: &Job, owned: &[Arc<Pod>]) -> Count {
    let before = job.status.clone().unwrap_or_default();
    let active: Vec<_> = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    let number = |phase: &str| owned.iter().filter(|pod| pods::phase(pod) == phase).count();
    let small = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let mut done: Vec<_> = owned
        .iter()
        .filter(|pod| pods::phase(pod) == "Succeeded")
        .filter_map(|pod| pod::index(pod))
        .collect();
    done.extend(pod::parse_indexes(
        before.completed_indexes.as_deref().unwrap_or_default(),
    ));
    done.sort_unstable();
    done.dedup();
    let succeeded = if is_indexed(job) {
        small(done.len())
    } else {
        small(number("Succeeded"))
    };
    Count {
        ready: small(active.iter().filter(|pod| pods::is_ready(pod)).count()),
        terminating: small(
            owned
                .iter()
                .filter(|pod| meta::is_terminating(&pod.metadata) && !pods::is_finished(pod))
                .count(),
        ),
        // Pods that somebody has deleted meanwhile still count.
        succeeded: succeeded.max(before.succeeded.unwrap_or(0)),
        failed: small(number("Failed")).max(before.failed.unwrap_or(0)),
        last_failure: owned
            .iter()
            .filter(|pod| pods::phase(pod) == "Failed")
            .filter_map(|pod| pod::ended(pod))
            .max(),
        active,
        done,
    }
}

fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

/// Decides for a Job, given all its pods.
#[must_use]
pub fn decide(job: &Job, owned: &[Arc<Pod>], now: Timestamp) -> Plan {
    let Some(spec) = &job.spec else { return Plan::default() };
    if meta::is_terminating(&job.metadata) {
        return Plan::default();
    }
    if is_finished(job) {
        return after_the_end(job, spec, owned, now);
    }
    let count = count(job, owned);
    let mut plan = Plan::default();
    let mut status = job.status.clone().unwrap_or_default();
    let suspended = spec.suspend == Some(true);
    if !suspended {
        status.start_time.get_or_insert_with(|| meta::time(now));
    }
    if let Some((reason, message)) = failure(spec, &status, &count, now) {
        plan.delete = count.active.clone();
        end(&mut status, "Failed", reason, &message, now);
        plan.events.push((true, reason, message));
    } else if is_complete(spec, &count) {
        plan.delete = count.active.clone();
        status.completion_time = Some(meta::time(now));
        end(
            &mut status,
            "Complete",
            "CompletionsReached",
            "Reached expected number of succeeded pods",
            now,
        );
        plan.events.push((false, "Completed", "Job completed".into()));
    } else if suspended {
        plan.delete = count.active.clone();
        status.start_time = None;
        suspend(&mut status, &mut plan, true, now);
    } else {
        suspend(&mut status, &mut plan, false, now);
        fill(job, spec, &count, now, &mut plan);
        plan.requeue = plan.requeue.or_else(|| deadline_left(spec, &status, now));
    }
    let some = |n: i32| (n != 0).then_some(n);
    let active = i32::try_from(count.active.len() + plan.create.len() - plan.delete.len().min(count.active.len()));
    status.active = some(active.unwrap_or(0));
    status.ready = Some(if plan.delete.is_empty() { count.ready } else { 0 });
    status.terminating = Some(count.terminating);
    // Pods are counted when they are seen to have ended; none ever waits for it.
    status.uncounted_terminated_pods = Some(UncountedTerminatedPods::default());
    status.succeeded = some(count.succeeded);
    status.failed = some(count.failed);
    if is_indexed(job) {
        status.completed_indexes = Some(pod::format_indexes(&count.done)).filter(|text| !text.is_empty());
    }
    plan.status = (job.status.as_ref() != Some(&status)).then_some(status);
    plan
}

fn failure(spec: &JobSpec, status: &JobStatus, count: &Count, now: Timestamp) -> Option<(&'static str, String)> {
    if count.failed > spec.backoff_limit.unwrap_or(6) {
        return Some((
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit".into(),
        ));
    }
    let left = deadline_left(spec, status, now)?;
    left.is_zero().then(|| {
        (
            "DeadlineExceeded",
            "Job was active longer than specified deadline".into(),
        )
    })
}

fn deadline_left(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<Duration> {
    let end = status
        .start_time
        .as_ref()?
        .0
        .as_second()
        .saturating_add(spec.active_deadline_seconds?);
    Some(Duration::from_secs(u64::try_from(end - now.as_second()).unwrap_or(0)))
}

fn is_complete(spec: &JobSpec, count: &Count) -> bool {
    match spec.completions {
        Some(completions) => count.succeeded >= completions,
        // A work queue: one success tells that the work is done; the others come to their end.
        None => count.succeeded > 0 && count.active.is_empty(),
    }
}

fn end(status: &mut JobStatus, kind: &str, reason: &str, message: &str, now: Timestamp) {
    let criterion = if kind == "Complete" {
        "SuccessCriteriaMet"
    } else {
        "FailureTarget"
    };
    for kind in [criterion, kind] {
        status.conditions.get_or_insert_default().push(JobCondition {
            type_: kind.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_probe_time: Some(meta::time(now)),
            last_transition_time: Some(meta::time(now)),
        });
    }
}

/// Says that the Job is held back, or no longer.
fn suspend(status: &mut JobStatus, plan: &mut Plan, suspended: bool, now: Timestamp) {
    let wanted = if suspended { "True" } else { "False" };
    let known = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Suspended");
    if known.map(|condition| condition.status.as_str()) == Some(wanted) || (known.is_none() && !suspended) {
        return;
    }
    let (reason, message) = match suspended {
        true => ("JobSuspended", "Job suspended"),
        false => ("JobResumed", "Job resumed"),
    };
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "Suspended");
    conditions.push(JobCondition {
        type_: "Suspended".into(),
        status: wanted.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(meta::time(now)),
        last_transition_time: Some(meta::time(now)),
    });
    plan.events
        .push((false, if suspended { "Suspended" } else { "Resumed" }, message.into()));
}

/// Makes as many pods as may run now, or takes away those that are too many.
fn fill(job: &Job, spec: &JobSpec, count: &Count, now: Timestamp, plan: &mut Plan) {
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - count.succeeded),
        None if count.succeeded > 0 => 0,
        None => parallelism,
    };
    let wanted = usize::try_from(wanted.max(0)).unwrap_or(0);
    let active = count.active.len();
    if active > wanted {
        if spec.completions.is_some() {
            let mut surplus = count.active.clone();
            surplus.sort_by(|a, b| pods::deletion_order(a, b));
            surplus.truncate(active - wanted);
            plan.delete = surplus;
        }
        return;
    }
    if active < wanted && count.failed > 0 {
        let doubled = FIRST_BACKOFF
            .saturating_mul(1 << (count.failed - 1).clamp(0, 10))
            .min(LAST_BACKOFF);
        let wait = count.last_failure.map_or(0, |at| at + doubled - now.as_second());
        if wait > 0 {
            plan.requeue = Some(Duration::from_secs(wait.unsigned_abs()));
            return;
        }
    }
    plan.create = match is_indexed(job) {
        false => vec![None; wanted - active],
        true => {
            let taken: Vec<_> = count.active.iter().filter_map(|pod| pod::index(pod)).collect();
            let free = (0..spec.completions.unwrap_or(0)).filter(|i| !count.done.contains(i) && !taken.contains(i));
            free.take(wanted - active).map(Some).collect()
        }
    };
}

fn after_the_end(job: &Job, spec: &JobSpec, owned: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    plan.delete
        .extend(owned.iter().filter(|pod| pods::is_active(pod)).cloned());
    let ended = condition(job, "Complete").or_else(|| condition(job, "Failed"));
    let ended = ended.and_then(|condition| condition.last_transition_time.as_ref());
    if let (Some(ttl), Some(ended)) = (spec.ttl_seconds_after_finished, ended) {
        let left = ended.0.as_second() + i64::from(ttl) - now.as_second();
        plan.remove = left <= 0;
        plan.requeue = (left > 0).then(|| Duration::from_secs(left.unsigned_abs()));
    }
    plan
}
