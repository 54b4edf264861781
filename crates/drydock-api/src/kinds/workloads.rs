//! Deployments, sets and jobs: validation and what the server sets.

use serde_json::{Value, json};

use super::{list, names, pod_diff, pod_validation, pod_warnings, text};
use crate::{field::FieldError, label_selector, meta};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const IMMUTABLE: &str = "field is immutable";

/// Gives a new Job its selector and labels.
pub fn prepare_job(job: &mut Value) {
    if job.pointer("/spec/manualSelector") == Some(&json!(true)) {
        return;
    }
    let uid = meta::text(job, "uid").to_owned();
    let name = meta::name(job).to_owned();
    let labels = [
        ("batch.kubernetes.io/controller-uid", uid.clone()),
        ("batch.kubernetes.io/job-name", name.clone()),
        ("controller-uid", uid.clone()),
        ("job-name", name),
    ];
    let template = &mut job["spec"]["template"];
    if !template["metadata"].is_object() {
        template["metadata"] = json!({});
    }
    super::default(&mut template["metadata"], "labels", json!({}));
    for (key, value) in labels {
        template["metadata"]["labels"][key] = value.into();
    }
    if job
        .pointer("/metadata/labels")
        .is_none_or(|labels| labels.as_object().is_none_or(serde_json::Map::is_empty))
    {
        let labels = job["spec"]["template"]["metadata"]["labels"].clone();
        meta::set(job, "labels", labels);
    }
    job["spec"]["selector"] = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } });
}

/// Counts the changes of a DaemonSet's template in the annotation that older clients read.
pub fn count_template(object: &mut Value, old: Option<&Value>) {
    const COUNT: &str = "deprecated.daemonset.template.generation";
    let before = old.map(|old| {
        let count = &old["metadata"]["annotations"][COUNT];
        count.as_str().and_then(|count| count.parse::<u64>().ok()).unwrap_or(1)
    });
    let count = match (before, old) {
        (Some(before), Some(old)) if object["spec"]["template"] != old["spec"]["template"] => before + 1,
        (Some(before), _) => before,
        (None, _) => 1,
    };
    let annotations = meta::of(object).entry("annotations").or_insert_with(|| json!({}));
    annotations[COUNT] = count.to_string().into();
}

/// Problems of a workload; `old` is what an update replaces.
pub fn validate(kind: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &object["spec"];
    match kind {
        "Deployment" => {
            replicas(
                spec,
                &[
                    "replicas",
                    "minReadySeconds",
                    "revisionHistoryLimit",
                    "progressDeadlineSeconds",
                ],
                &mut errors,
            );
            selector(spec, "deployment", &mut errors);
            strategy(spec, &mut errors);
            template(spec, &["Always"], &mut errors);
            deadline(spec, &mut errors);
        }
        "ReplicaSet" => {
            replicas(spec, &["replicas", "minReadySeconds"], &mut errors);
            selector(spec, "deployment", &mut errors);
            template(spec, &["Always"], &mut errors);
        }
        "ReplicationController" => {
            replicas(spec, &["replicas", "minReadySeconds"], &mut errors);
            if spec["selector"].as_object().is_none_or(serde_json::Map::is_empty) {
                errors.push(FieldError::required("spec.selector", ""));
            }
            if !spec["template"].is_object() {
                errors.push(FieldError::required("spec.template", ""));
            } else {
                template(spec, &["Always"], &mut errors);
            }
        }
        "StatefulSet" => {
            replicas(
                spec,
                &["replicas", "minReadySeconds", "revisionHistoryLimit"],
                &mut errors,
            );
            selector(spec, "statefulset", &mut errors);
            match text(spec, "/podManagementPolicy") {
                "" => errors.push(FieldError::required("spec.podManagementPolicy", "")),
                "OrderedReady" | "Parallel" => {}
                _ => errors.push(FieldError::invalid(
                    "spec.podManagementPolicy",
                    &spec["podManagementPolicy"],
                    "must be 'OrderedReady' or 'Parallel'",
                )),
            }
            template(spec, &["Always"], &mut errors);
        }
        "DaemonSet" => {
            replicas(spec, &["minReadySeconds", "revisionHistoryLimit"], &mut errors);
            selector(spec, "daemonset", &mut errors);
            daemon_strategy(spec, &mut errors);
            template(spec, &["Always"], &mut errors);
        }
        "Job" => {
            job_spec(spec, "spec", &mut errors);
            job_selector(object, &mut errors);
        }
        "CronJob" => cron_job(object, &mut errors),
        "PodTemplate" => errors.extend(pod_validation::pod_spec(&object["template"]["spec"], "template.spec")),
        _ => {}
    }
    if let Some(old) = old {
        changed(kind, object, old, &mut errors);
    }
    errors
}

fn replicas(spec: &Value, fields: &[&str], errors: &mut Vec<FieldError>) {
    for field in fields {
        if spec[*field].as_i64().is_some_and(|value| value < 0) {
            errors.push(FieldError::invalid(
                format!("spec.{field}"),
                &spec[*field],
                NOT_NEGATIVE,
            ));
        }
    }
}

fn deadline(spec: &Value, errors: &mut Vec<FieldError>) {
    let (deadline, ready) = (
        spec["progressDeadlineSeconds"].as_i64(),
        spec["minReadySeconds"].as_i64().unwrap_or(0),
    );
    if deadline.is_some_and(|deadline| deadline <= ready) {
        errors.push(FieldError::invalid(
            "spec.progressDeadlineSeconds",
            &spec["progressDeadlineSeconds"],
            "must be greater than minReadySeconds",
        ));
    }
}

/// A selector as error messages print it.
fn shown_selector(selector: &Value) -> Value {
    let mut shown = json!({});
    for field in ["matchLabels", "matchExpressions"] {
        if let Some(value) = selector.get(field).filter(|value| !value.is_null()) {
            shown[field] = value.clone();
        }
    }
    shown
}

fn selector(spec: &Value, what: &str, errors: &mut Vec<FieldError>) {
    let given = &spec["selector"];
    if !given.is_object() {
        errors.push(FieldError::required("spec.selector", ""));
        mismatch(spec, errors);
        return;
    }
    errors.extend(selector_problems(given, "spec.selector"));
    let empty = given["matchLabels"].as_object().is_none_or(serde_json::Map::is_empty)
        && list(given, "/matchExpressions").is_empty();
    if empty {
        let detail = format!("empty selector is invalid for {what}");
        errors.push(FieldError::invalid("spec.selector", &shown_selector(given), detail));
    } else if !label_selector::matches(given, spec.pointer("/template/metadata/labels").unwrap_or(&Value::Null)) {
        mismatch(spec, errors);
    }
}

fn mismatch(spec: &Value, errors: &mut Vec<FieldError>) {
    let labels = spec
        .pointer("/template/metadata/labels")
        .cloned()
        .unwrap_or(Value::Null);
    errors.push(FieldError::invalid(
        "spec.template.metadata.labels",
        &labels,
        "`selector` does not match template `labels`",
    ));
}

/// Problems of a label selector object.
pub fn selector_problems(selector: &Value, root: &str) -> Vec<FieldError> {
    let mut errors = meta::labels(&selector["matchLabels"], &format!("{root}.matchLabels"));
    for (index, expression) in list(selector, "/matchExpressions").iter().enumerate() {
        let field = format!("{root}.matchExpressions[{index}]");
        let values = list(expression, "/values");
        match text(expression, "/operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                format!("{field}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                format!("{field}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(FieldError::invalid(
                format!("{field}.operator"),
                &expression["operator"],
                "not a valid selector operator",
            )),
        }
        errors.extend(
            names::qualified_name(text(expression, "/key"))
                .into_iter()
                .map(|problem| FieldError::invalid(format!("{field}.key"), &expression["key"], problem)),
        );
        for (at, value) in values.iter().enumerate() {
            if let Some(problem) = names::label_value(value.as_str().unwrap_or_default()) {
                errors.push(FieldError::invalid(format!("{field}.values[{at}]"), value, problem));
            }
        }
    }
    errors
}

fn template(spec: &Value, restart: &[&str], errors: &mut Vec<FieldError>) {
    let template = &spec["template"];
    errors.extend(meta::labels(&template["metadata"]["labels"], "spec.template.labels"));
    errors.extend(pod_validation::pod_spec(&template["spec"], "spec.template.spec"));
    let policy = text(template, "/spec/restartPolicy");
    if !restart.contains(&policy) && matches!(policy, "OnFailure" | "Never" | "Always") {
        errors.push(FieldError::not_supported(
            "spec.template.spec.restartPolicy",
            &template["spec"]["restartPolicy"],
            restart,
        ));
    }
    if !template["spec"]["activeDeadlineSeconds"].is_null() && restart == ["Always"] {
        errors.push(FieldError::forbidden(
            "spec.template.spec.activeDeadlineSeconds",
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        ));
    }
}

/// A percentage or a count of at least zero; `None` if it is neither.
fn amount(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.strip_suffix('%')?.parse().ok(),
        _ => Some(0),
    }
}

fn int_or_percent(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::String(text)
            if text
                .strip_suffix('%')
                .is_none_or(|number| number.parse::<u32>().is_err()) =>
        {
            errors.push(FieldError::invalid(
                field,
                value,
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            ));
        }
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            errors.push(FieldError::invalid(field, value, NOT_NEGATIVE));
        }
        _ => {}
    }
}

fn strategy(spec: &Value, errors: &mut Vec<FieldError>) {
    let strategy = &spec["strategy"];
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "/type") {
        "Recreate" if rolling.is_object() => errors.push(FieldError::forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        "Recreate" => {}
        "RollingUpdate" => {
            let root = "spec.strategy.rollingUpdate";
            int_or_percent(&rolling["maxUnavailable"], &format!("{root}.maxUnavailable"), errors);
            int_or_percent(&rolling["maxSurge"], &format!("{root}.maxSurge"), errors);
            if amount(&rolling["maxUnavailable"]) == Some(0) && amount(&rolling["maxSurge"]) == Some(0) {
                errors.push(FieldError::invalid(
                    format!("{root}.maxUnavailable"),
                    &rolling["maxUnavailable"],
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
            over_hundred(&rolling["maxUnavailable"], &format!("{root}.maxUnavailable"), errors);
        }
        _ => errors.push(FieldError::not_supported(
            "spec.strategy.type",
            &strategy["type"],
            &["Recreate", "RollingUpdate"],
        )),
    }
}

fn over_hundred(value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if value.is_string() && amount(value).is_some_and(|percent| percent > 100) {
        errors.push(FieldError::invalid(field, value, "must not be greater than 100%"));
    }
}

fn daemon_strategy(spec: &Value, errors: &mut Vec<FieldError>) {
    let strategy = &spec["updateStrategy"];
    match text(strategy, "/type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = &strategy["rollingUpdate"];
            let root = "spec.updateStrategy.rollingUpdate";
            int_or_percent(&rolling["maxUnavailable"], &format!("{root}.maxUnavailable"), errors);
            int_or_percent(&rolling["maxSurge"], &format!("{root}.maxSurge"), errors);
            if amount(&rolling["maxUnavailable"]) == Some(0) && amount(&rolling["maxSurge"]) == Some(0) {
                errors.push(FieldError::required(
                    format!("{root}.maxUnavailable"),
                    "cannot be 0 when maxSurge is 0",
                ));
            }
        }
        _ => errors.push(FieldError::not_supported(
            "spec.updateStrategy.type",
            &strategy["type"],
            &["RollingUpdate", "OnDelete"],
        )),
    }
}

fn job_spec(spec: &Value, root: &str, errors: &mut Vec<FieldError>) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ] {
        if spec[field].as_i64().is_some_and(|value| value < 0) {
            errors.push(FieldError::invalid(
                format!("{root}.{field}"),
                &spec[field],
                NOT_NEGATIVE,
            ));
        }
    }
    let template = format!("{root}.template");
    errors.extend(meta::labels(
        &spec["template"]["metadata"]["labels"],
        &format!("{template}.labels"),
    ));
    errors.extend(pod_validation::pod_spec(
        &spec["template"]["spec"],
        &format!("{template}.spec"),
    ));
    let policy = text(spec, "/template/spec/restartPolicy");
    let field = format!("{template}.spec.restartPolicy");
    if policy == "Always" {
        errors.push(FieldError::required(field, "valid values: \"OnFailure\", \"Never\""));
    } else if !matches!(policy, "OnFailure" | "Never") {
        errors.push(FieldError::not_supported(
            field,
            &spec["template"]["spec"]["restartPolicy"],
            &["OnFailure", "Never"],
        ));
    }
    if text(spec, "/completionMode") == "Indexed" && spec["completions"].is_null() {
        errors.push(FieldError::required(
            format!("{root}.completions"),
            "when completion mode is Indexed",
        ));
    }
}

fn job_selector(job: &Value, errors: &mut Vec<FieldError>) {
    let selector = &job["spec"]["selector"];
    if !selector.is_object() {
        errors.push(FieldError::required("spec.selector", ""));
    } else {
        errors.extend(selector_problems(selector, "spec.selector"));
    }
}

fn cron_job(object: &Value, errors: &mut Vec<FieldError>) {
    const MAX_NAME: usize = 52;
    let spec = &object["spec"];
    if meta::name(object).len() > MAX_NAME {
        errors.push(FieldError::invalid(
            "metadata.name",
            &json!(meta::name(object)),
            format!("must be no more than {MAX_NAME} characters"),
        ));
    }
    let schedule = text(spec, "/schedule");
    if schedule.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    } else if let Some(problem) = schedule_problem(schedule) {
        errors.push(FieldError::invalid("spec.schedule", &spec["schedule"], problem));
    }
    if let Some(zone) = spec["timeZone"].as_str() {
        if zone.is_empty() {
            errors.push(FieldError::invalid(
                "spec.timeZone",
                &json!(zone),
                "timeZone must be nil or non-empty string",
            ));
        } else if jiff::tz::TimeZone::get(zone).is_err() {
            errors.push(FieldError::invalid(
                "spec.timeZone",
                &json!(zone),
                format!("unknown time zone {zone}"),
            ));
        }
    }
    if !matches!(text(spec, "/concurrencyPolicy"), "Allow" | "Forbid" | "Replace") {
        errors.push(FieldError::not_supported(
            "spec.concurrencyPolicy",
            &spec["concurrencyPolicy"],
            &["Allow", "Forbid", "Replace"],
        ));
    }
    for field in [
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
        "startingDeadlineSeconds",
    ] {
        if spec[field].as_i64().is_some_and(|value| value < 0) {
            errors.push(FieldError::invalid(format!("spec.{field}"), &spec[field], NOT_NEGATIVE));
        }
    }
    job_spec(&spec["jobTemplate"]["spec"], "spec.jobTemplate.spec", errors);
}

/// What is wrong with a cron schedule.
fn schedule_problem(schedule: &str) -> Option<String> {
    if let Some(word) = schedule.strip_prefix('@') {
        let known = matches!(
            word,
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly"
        );
        return (!known && !word.starts_with("every ")).then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    fields
        .iter()
        .zip(bounds)
        .find_map(|(field, (low, high))| field.split(',').find_map(|part| cron_part(part, low, high)))
}

fn cron_part(part: &str, low: u32, high: u32) -> Option<String> {
    let range = part.split('/').next().unwrap_or_default();
    if matches!(range, "*" | "?") {
        return None;
    }
    range.split('-').find_map(|number| match number.parse::<u32>() {
        Ok(value) if value < low => Some(format!("beginning of range ({value}) below minimum ({low}): {part}")),
        Ok(value) if value > high => Some(format!("end of range ({value}) above maximum ({high}): {part}")),
        Ok(_) => None,
        Err(_) if number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_alphabetic()) => None,
        Err(_) => Some(format!(
            "failed to parse int from {number}: strconv.Atoi: parsing {number:?}: invalid syntax"
        )),
    })
}

fn changed(kind: &str, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (spec, before) = (&object["spec"], &old["spec"]);
    match kind {
        "Deployment" | "ReplicaSet" | "DaemonSet" if spec["selector"] != before["selector"] => {
            errors.push(FieldError::invalid(
                "spec.selector",
                &shown_selector(&spec["selector"]),
                IMMUTABLE,
            ));
        }
        "StatefulSet" => {
            let fixed = |spec: &Value| {
                let mut spec = spec.clone();
                if let Some(map) = spec.as_object_mut() {
                    for field in [
                        "replicas",
                        "ordinals",
                        "template",
                        "updateStrategy",
                        "revisionHistoryLimit",
                        "persistentVolumeClaimRetentionPolicy",
                        "minReadySeconds",
                    ] {
                        map.shift_remove(field);
                    }
                }
                spec
            };
            if fixed(spec) != fixed(before) {
                errors.push(FieldError::forbidden(
                    "spec",
                    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
                ));
            }
        }
        "Job" => {
            for field in [
                "completions",
                "selector",
                "completionMode",
                "podFailurePolicy",
                "backoffLimitPerIndex",
            ] {
                if spec[field] != before[field] {
                    errors.push(FieldError::invalid(format!("spec.{field}"), &spec[field], IMMUTABLE));
                }
            }
            let suspended = before["suspend"] == true && old["status"]["startTime"].is_null();
            if spec["template"] != before["template"] && !suspended {
                let shown = pod_diff::internal_template(&spec["template"]);
                errors.push(FieldError::invalid("spec.template", &shown, IMMUTABLE));
            }
        }
        _ => {}
    }
}

/// Warnings about a workload: those about its pods, unless an update leaves the template alone.
pub fn warnings(kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let template = match kind {
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => "/spec/template",
    };
    if old.is_some_and(|old| old.pointer(template) == object.pointer(template)) {
        return Vec::new();
    }
    let root = format!("{}.", template.trim_start_matches('/').replace('/', "."));
    object
        .pointer(template)
        .map_or_else(Vec::new, |pod| pod_warnings::warnings(pod, &root))
}
