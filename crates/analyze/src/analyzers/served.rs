//! Injectors behind which no istiod is ready: they fail closed, so no pod that they select can start.

use api::names::label;
use serde_json::Value;

use super::remedy;
use crate::message::{INVALID_WEBHOOK, Level, Message};
use crate::objects::{Objects, labels, namespace};

/// Namespace and name of the Service that a webhook calls.
pub(super) fn service(webhook: &Value) -> Option<(&str, &str)> {
    let service = webhook.pointer("/clientConfig/service")?;
    Some((service["namespace"].as_str()?, service["name"].as_str()?))
}

/// What becomes of pods that nobody answers for.
pub(super) fn effect(webhook: &Value) -> &'static str {
    match webhook["failurePolicy"].as_str() {
        Some("Ignore") => "Pods that it selects start without a proxy",
        _ => "No pod that it selects can start",
    }
}

/// Is a pod behind a Service ready? Nothing is known of a Service that is not there or that selects no pods.
fn is_served(objects: &Objects, of: &str, name: &str) -> Option<bool> {
    let service = objects.get("Service", of, name)?;
    let selector = service.pointer("/spec/selector")?.as_object()?;
    if selector.is_empty() {
        return None;
    }
    let is_behind = |pod: &&Value| {
        let labels = labels(pod);
        let mut wanted = selector.iter();
        namespace(pod) == of && wanted.all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
    };
    Some(objects.of_kind("Pod").filter(is_behind).any(is_ready))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    pod.pointer("/metadata/deletionTimestamp").is_none()
        && conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The first webhook of a configuration whose Service has no ready pod.
fn unserved<'a>(objects: &Objects, configuration: &'a Value) -> Option<&'a Value> {
    let mut webhooks = configuration["webhooks"].as_array()?.iter();
    webhooks.find(|webhook| service(webhook).is_some_and(|(of, name)| is_served(objects, of, name) == Some(false)))
}

/// Would the injector of a revision refuse new pods now?
pub(super) fn is_asleep(objects: &Objects, revision: &str) -> bool {
    let mut injectors = objects.of_kind("MutatingWebhookConfiguration");
    injectors.any(|configuration| {
        labels(configuration)
            .get(label::REVISION)
            .is_some_and(|of| of == revision)
            && unserved(objects, configuration).is_some()
    })
}

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    for configuration in objects.of_kind("MutatingWebhookConfiguration") {
        let labels = labels(configuration);
        let Some(revision) = labels.get(label::REVISION) else {
            continue;
        };
        let Some(webhook) = unserved(objects, configuration) else {
            continue;
        };
        let (of, name) = service(webhook).unwrap_or_default();
        let other = match labels.get(label::TAG) {
            Some(tag) => format!("move the tag with {}", remedy::moving(configuration, tag)),
            None => "point its namespaces at another revision".to_owned(),
        };
        let text = format!(
            "No istiod of revision {revision:?} is ready behind the control plane service {of}/{name}. {} until one is, so \
             restart none: bring it back ('kubectl get pods -n {of} -l app=istiod,istio.io/rev={revision}'), or {other}.",
            effect(webhook)
        );
        messages.push(Message::about(INVALID_WEBHOOK, configuration, text).at(Level::Warning));
    }
}
