//! Calls mutating webhooks one after another and validating webhooks side by side.

use super::{
    client::{self, Endpoint},
    conditions, review, rules, service,
};
use crate::{
    Core,
    error::{ApiError, Subject},
    hooks::AdmissionRequest,
    objects::{Objects, text},
    resource::ResourceInfo,
    schema,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::join_all;
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

const GROUP: &str = "admissionregistration.k8s.io";

/// One webhook of a configuration.
#[derive(Debug, Clone)]
struct Hook {
    /// Unique over all configurations.
    id: String,
    spec: Value,
}

impl Hook {
    fn name(&self) -> &str {
        text(&self.spec, &["name"])
    }
    fn ignores_failure(&self) -> bool {
        text(&self.spec, &["failurePolicy"]) == "Ignore"
    }
}

/// Webhooks that were called and want to be called again after a later change, and those due for it.
#[derive(Debug, Default)]
pub struct Rounds {
    called: BTreeSet<String>,
    due: BTreeSet<String>,
    /// Whether a webhook changed the object, so that a second round is needed.
    pub changed: bool,
}

impl Rounds {
    /// The server itself changed the object: all webhooks that want to see later changes are due.
    pub fn everything_due(&mut self) {
        self.due.append(&mut self.called);
    }
}

fn hooks(core: &Core, resource: &str) -> Vec<Hook> {
    core.list(GROUP, resource, "")
        .iter()
        .flat_map(|configuration| {
            let name = text(configuration, &["metadata", "name"]).to_owned();
            configuration["webhooks"]
                .as_array()
                .cloned()
                .unwrap_or_default()
                .into_iter()
                .map(move |spec| Hook {
                    id: format!("{name}/{}", text(&spec, &["name"])),
                    spec,
                })
        })
        .collect()
}

/// Runs the mutating webhooks. In the second round (`again`) only those due are called.
///
/// # Errors
/// A denial, or the failure of a webhook whose failures are not ignored.
pub async fn mutate(
    core: &Core,
    request: &mut AdmissionRequest<'_>,
    rounds: &mut Rounds,
    again: bool,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    if rules::is_exempt(request.resource) {
        return Ok(());
    }
    for hook in hooks(core, "mutatingwebhookconfigurations") {
        if again && !rounds.due.contains(&hook.id) {
            continue;
        }
        let Some(seen_as) = wanted(core, request, &hook)? else {
            continue;
        };
        let outcome = call(core, request, &hook, &seen_as, true).await?;
        let reinvocable = text(&hook.spec, &["reinvocationPolicy"]) == "IfNeeded";
        if let Some(answer) = outcome {
            warnings.extend(answer.warnings.iter().cloned());
            if !answer.allowed {
                return Err(review::denial(hook.name(), &answer.status));
            }
            if let Some(patch) = &answer.patch
                && apply_patch(request, &hook, &seen_as, patch)?
            {
                rounds.everything_due();
                rounds.changed = true;
            }
        }
        if reinvocable {
            rounds.called.insert(hook.id.clone());
        }
    }
    Ok(())
}

/// Runs the validating webhooks.
///
/// # Errors
/// The first denial or failure in order of the webhooks.
pub async fn validate(core: &Core, request: &AdmissionRequest<'_>, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    if rules::is_exempt(request.resource) {
        return Ok(());
    }
    let mut calls = Vec::new();
    for hook in hooks(core, "validatingwebhookconfigurations") {
        if let Some(seen_as) = wanted(core, request, &hook)? {
            calls.push((hook, seen_as));
        }
    }
    let answers = join_all(
        calls
            .iter()
            .map(|(hook, seen_as)| call(core, request, hook, seen_as, false)),
    )
    .await;
    let mut outcome = Ok(());
    for ((hook, _), answer) in calls.iter().zip(answers) {
        let verdict = match answer {
            Err(error) => Err(error),
            Ok(None) => Ok(()),
            Ok(Some(answer)) => {
                warnings.extend(answer.warnings.iter().cloned());
                if answer.allowed {
                    Ok(())
                } else {
                    Err(review::denial(hook.name(), &answer.status))
                }
            }
        };
        outcome = outcome.and(verdict);
    }
    outcome
}

/// The version to send the object in, if the webhook is about this request.
fn wanted(core: &Core, request: &AdmissionRequest<'_>, hook: &Hook) -> Result<Option<Arc<ResourceInfo>>, ApiError> {
    let equivalent = text(&hook.spec, &["matchPolicy"]) != "Exact";
    let Some(seen_as) = rules::matched(core, request, &hook.spec["rules"], equivalent) else {
        return Ok(None);
    };
    if !rules::namespace_selected(core, request, &hook.spec["namespaceSelector"])
        || !rules::object_selected(request, &hook.spec["objectSelector"])
    {
        return Ok(None);
    }
    let given = &hook.spec["matchConditions"];
    if given.as_array().is_some_and(|a| !a.is_empty()) {
        match conditions::hold(given, &conditions::context(request, &seen_as)) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(_) if hook.ignores_failure() => return Ok(None),
            Err(problem) => return Err(forbidden(request, &problem)),
        }
    }
    let side_effects = text(&hook.spec, &["sideEffects"]);
    if request.dry_run && !matches!(side_effects, "None" | "NoneOnDryRun") {
        return Err(ApiError::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            hook.name()
        )));
    }
    Ok(Some(seen_as))
}

/// 403 about the object of the request.
pub(super) fn forbidden(request: &AdmissionRequest<'_>, cause: &str) -> ApiError {
    let subject = Subject {
        group: &request.resource.group,
        resource: &request.resource.plural,
        name: request.name,
    };
    ApiError::forbidden(subject, cause)
}

/// One call; `None` if it failed and failures are ignored.
async fn call(
    core: &Core,
    request: &AdmissionRequest<'_>,
    hook: &Hook,
    seen_as: &ResourceInfo,
    mutating: bool,
) -> Result<Option<review::Answer>, ApiError> {
    let uid = uuid::Uuid::new_v4().to_string();
    let version = review::version(&hook.spec["admissionReviewVersions"]);
    let body = review::build(request, seen_as, &uid, version);
    let seconds = hook.spec["timeoutSeconds"].as_u64().unwrap_or(10);
    let outcome = match endpoint(core, hook, seconds) {
        Ok(endpoint) => client::post(&endpoint, &body, Duration::from_secs(seconds)).await,
        Err(text) => Err(text),
    };
    let answer = match outcome {
        Ok(answer) => review::read(&answer, &uid, version, mutating)
            .map_err(|text| format!("received invalid webhook response: {text}")),
        Err(text) => Err(format!("failed to call webhook: {text}")),
    };
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(text) => {
            let text = format!("failed calling webhook {:?}: {text}", hook.name());
            if hook.ignores_failure() {
                tracing::warn!(webhook = hook.id, "{text}; failing open because of its failurePolicy");
                return Ok(None);
            }
            Err(ApiError::internal(text))
        }
    }
}

fn endpoint(core: &Core, hook: &Hook, seconds: u64) -> Result<Endpoint, String> {
    let config = &hook.spec["clientConfig"];
    let ca_bundle = STANDARD.decode(text(config, &["caBundle"])).unwrap_or_default();
    if let Some(service) = config.get("service").filter(|s| s.is_object()) {
        let (name, namespace) = (text(service, &["name"]), text(service, &["namespace"]));
        let port = service["port"]
            .as_u64()
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(443);
        let path = match text(service, &["path"]) {
            "" => "/",
            path => path,
        };
        let path = with_timeout(path, seconds);
        let server_name = format!("{name}.{namespace}.svc");
        let url = format!("https://{server_name}:{port}{path}");
        let (host, port) =
            service::resolve(core, namespace, name, port).map_err(|text| format!("Post {url:?}: {text}"))?;
        return Ok(Endpoint {
            url,
            host,
            port,
            server_name,
            path,
            ca_bundle,
        });
    }
    let url = text(config, &["url"]);
    let uri: http::Uri = url.parse().map_err(|e| format!("parse {url:?}: {e}"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let path = with_timeout(
        uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
        seconds,
    );
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    Ok(Endpoint {
        url: format!("https://{authority}{path}"),
        port: uri.port_u16().unwrap_or(443),
        server_name: host.clone(),
        host,
        path,
        ca_bundle,
    })
}

fn with_timeout(path: &str, seconds: u64) -> String {
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("{path}{joint}timeout={seconds}s")
}

/// Applies the patch; says whether the object changed.
fn apply_patch(
    request: &mut AdmissionRequest<'_>,
    hook: &Hook,
    seen_as: &ResourceInfo,
    patch: &[u8],
) -> Result<bool, ApiError> {
    let Some(object) = &request.object else {
        return Err(ApiError::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name()
        )));
    };
    let operations: Value = serde_json::from_slice(patch).map_err(|e| ApiError::internal(e.to_string()))?;
    let mut patched = rules::converted(request.resource, seen_as, object);
    let before = patched.clone();
    let operations: json_patch::Patch =
        serde_json::from_value(operations).map_err(|e| ApiError::internal(e.to_string()))?;
    json_patch::patch(&mut patched, &operations).map_err(|e| ApiError::internal(patch_words(&operations, &e)))?;
    if patched == before {
        return Ok(false);
    }
    let mut patched = rules::converted(seen_as, request.resource, &patched);
    if request.subresource.is_none_or(|s| s == "status") {
        decoded(request.resource, &mut patched)?;
        request.resource.strategy.default(&mut patched);
    }
    request.object = Some(patched);
    Ok(true)
}

/// Checks that the patched object still is one of its kind.
fn decoded(resource: &ResourceInfo, object: &mut Value) -> Result<(), ApiError> {
    if resource.custom {
        return resource.strategy.decode(resource, object).map(|_| ());
    }
    match resource.strategy.schema() {
        Some(fields) => schema::decode(fields, &resource.kind, object, &[])
            .map(|_| ())
            .map_err(ApiError::internal),
        None => Ok(()),
    }
}

/// Why a JSON patch does not fit, in the words of the real server.
fn patch_words(operations: &json_patch::Patch, error: &json_patch::PatchError) -> String {
    use json_patch::PatchOperation as Operation;
    let path = error.path.to_string();
    let key = path.rsplit('/').next().unwrap_or_default();
    match operations.0.get(error.operation) {
        Some(Operation::Remove(_)) => {
            format!("error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value")
        }
        Some(Operation::Add(_)) => {
            format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
        }
        Some(Operation::Replace(_)) => {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }
        Some(Operation::Test(_)) => format!("testing value {path} failed: test failed"),
        Some(Operation::Move(_)) => format!("error in move for path: '{key}': missing value"),
        Some(Operation::Copy(_)) => format!("error in copy for path: '{key}': missing value"),
        None => error.to_string(),
    }
}
