//! CronJob: Jobs at times of a schedule, and a few of the finished ones kept.

mod controller;
mod schedule;
#[cfg(test)]
mod tests;

pub use controller::start;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{Timestamp, ToSpan};

use crate::{job, meta};
use schedule::Schedule;

/// Times that were missed, of which the last counts, are not looked for further back than so many.
const MISSED: usize = 100_000;
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What is to be done for a CronJob.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Plan {
    /// The Job that is due.
    pub create: Option<Box<Job>>,
    /// Jobs to delete: replaced ones, and finished ones that are too many.
    pub delete: Vec<Arc<Job>>,
    /// The status, when it is to be written.
    pub status: Option<CronJobStatus>,
    /// Warnings and other events: reason and message.
    pub events: Vec<(bool, &'static str, String)>,
    /// When to look again.
    pub requeue: Option<Duration>,
}

/// Decides for a CronJob, given its Jobs.
#[must_use]
pub fn decide(cron: &CronJob, owned: &[Arc<Job>], now: Timestamp) -> Plan {
    let (Some(spec), false) = (&cron.spec, meta::is_terminating(&cron.metadata)) else {
        return Plan::default();
    };
    let mut plan = Plan {
        delete: surplus(spec, owned),
        ..Plan::default()
    };
    let (mut status, active) = seen(cron, owned);
    if spec.suspend != Some(true) {
        due(cron, spec, &active, &mut status, now, &mut plan);
    }
    plan.status = (cron.status.as_ref() != Some(&status)).then_some(status);
    plan
}

/// What the Jobs say about the CronJob, and those that run.
fn seen(cron: &CronJob, owned: &[Arc<Job>]) -> (CronJobStatus, Vec<Arc<Job>>) {
    let mut status = cron.status.clone().unwrap_or_default();
    let mut active: Vec<_> = owned.iter().filter(|job| !job::is_finished(job)).cloned().collect();
    active.sort_by(|a, b| meta::age_order(&a.metadata).cmp(&meta::age_order(&b.metadata)));
    let reference = |job: &Arc<Job>| ObjectReference {
        api_version: Some("batch/v1".into()),
        kind: Some("Job".into()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    };
    // A Job that is listed already stays as it was listed: its version changes with its pods.
    let known = status.active.take().unwrap_or_default();
    let listed = |job: &Arc<Job>| known.iter().find(|one| one.uid == job.metadata.uid).cloned();
    status.active = Some(
        active
            .iter()
            .map(|job| listed(job).unwrap_or_else(|| reference(job)))
            .collect(),
    )
    .filter(|list: &Vec<_>| !list.is_empty());
    let completed = owned
        .iter()
        .filter_map(|job| job.status.as_ref()?.completion_time.clone());
    status.last_successful_time = completed
        .chain(status.last_successful_time.take())
        .map(|t| t.0)
        .max()
        .map(Time);
    (status, active)
}

/// The oldest finished Jobs beyond what is to be kept.
fn surplus(spec: &CronJobSpec, owned: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let mut out = Vec::new();
    let limits = [
        (true, spec.successful_jobs_history_limit.unwrap_or(3)),
        (false, spec.failed_jobs_history_limit.unwrap_or(1)),
    ];
    for (well, limit) in limits {
        let ended = |job: &&Arc<Job>| {
            let completed = job
                .status
                .as_ref()
                .is_some_and(|status| status.completion_time.is_some());
            job::is_finished(job) && completed == well && !meta::is_terminating(&job.metadata)
        };
        let mut finished: Vec<_> = owned.iter().filter(ended).cloned().collect();
        finished.sort_by(|a, b| meta::age_order(&a.metadata).cmp(&meta::age_order(&b.metadata)));
        let keep = usize::try_from(limit).unwrap_or(0);
        finished.truncate(finished.len().saturating_sub(keep));
        out.extend(finished);
    }
    out
}

fn due(
    cron: &CronJob,
    spec: &CronJobSpec,
    active: &[Arc<Job>],
    status: &mut CronJobStatus,
    now: Timestamp,
    plan: &mut Plan,
) {
    let zone = spec.time_zone.as_deref().map_or(Ok(TimeZone::UTC), TimeZone::get);
    let (schedule, zone) = match (Schedule::parse(&spec.schedule), zone) {
        (Ok(schedule), Ok(zone)) => (schedule, zone),
        (Err(why), _) => {
            return plan
                .events
                .push((true, "UnparseableSchedule", format!("unparseable schedule: {why}")));
        }
        (_, Err(why)) => {
            return plan
                .events
                .push((true, "UnknownTimeZone", format!("invalid timeZone: {why}")));
        }
    };
    let created = cron.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let mut since = status.last_schedule_time.as_ref().map_or(created, |time| time.0);
    let oldest = spec
        .starting_deadline_seconds
        .and_then(|n| now.checked_sub(n.seconds()).ok());
    since = oldest.map_or(since, |oldest| since.max(oldest));
    let mut times = std::iter::successors(schedule.next(since, &zone), |at| schedule.next(*at, &zone)).take(MISSED);
    let mut last = None;
    let mut next = times.next();
    while let Some(at) = next.filter(|at| *at <= now) {
        last = Some(at);
        next = times.next();
    }
    plan.requeue = next.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    let Some(at) = last else { return };
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return plan.events.push((false, "JobAlreadyActive", message.into()));
        }
        Some("Replace") => plan.delete.extend(active.iter().cloned()),
        _ => {}
    }
    status.last_schedule_time = Some(meta::time(at));
    plan.create = Some(Box::new(make(cron, spec, at, &zone)));
}

/// The Job of a time; its name follows from it, so that it is made once.
fn make(cron: &CronJob, spec: &CronJobSpec, at: Timestamp, zone: &TimeZone) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations: BTreeMap<String, String> = template.annotations.unwrap_or_default();
    let text = at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    annotations.insert(SCHEDULED_AT.into(), text.replace("+00:00", "Z"));
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", meta::name(&cron.metadata), at.as_second() / 60)),
            namespace: cron.metadata.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![meta::controller_ref(cron)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}
