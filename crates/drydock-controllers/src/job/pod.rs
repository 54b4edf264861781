//! A Job's pods: labels, completion indexes, and when one ended.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::is_indexed;
use crate::{meta, pods};

const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The completion index of a pod.
pub(crate) fn index(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

/// When the last container of a pod ended, in Unix seconds.
pub(crate) fn ended(pod: &Pod) -> Option<i64> {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let ends = containers.filter_map(|container| container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let last = ends.map(|time| time.0.as_second()).max();
    last.or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()))
}

/// A pod of the Job's template.
pub(crate) fn make(job: &Job, at: Option<i32>) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let name = meta::name(&job.metadata);
    let prefix = match at {
        Some(at) => format!("{name}-{at}-"),
        None => format!("{name}-"),
    };
    let mut pod = pods::from_template(
        &template,
        &prefix,
        meta::namespace(&job.metadata),
        meta::controller_ref(job),
    );
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let labels = pod.metadata.labels.get_or_insert_default();
    for (key, value) in [("controller-uid", uid.as_str()), ("job-name", name)] {
        labels.insert(key.into(), value.into());
        labels.insert(format!("batch.kubernetes.io/{key}"), value.into());
    }
    if let (Some(at), true) = (at, is_indexed(job)) {
        labels.insert(INDEX.into(), at.to_string());
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(INDEX.into(), at.to_string());
        if let Some(spec) = &mut pod.spec {
            spec.hostname.get_or_insert_with(|| format!("{name}-{at}"));
            let containers = spec
                .containers
                .iter_mut()
                .chain(spec.init_containers.iter_mut().flatten());
            containers.for_each(tell_index);
        }
    }
    pod
}

fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().all(|variable| variable.name != "JOB_COMPLETION_INDEX") {
        let field_path = format!("metadata.annotations['{INDEX}']");
        env.push(EnvVar {
            name: "JOB_COMPLETION_INDEX".into(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        });
    }
}

/// Reads `0-2,5`. Ranges are bounded by what a Job may have (100 000 completions).
pub(crate) fn parse_indexes(text: &str) -> Vec<i32> {
    let mut indexes = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            indexes.extend((first.max(0)..=last.min(100_000)).take(100_000));
        }
    }
    indexes
}

/// Writes sorted indexes as `0-2,5`.
pub(crate) fn format_indexes(sorted: &[i32]) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for index in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let range = |(first, last): (i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}
