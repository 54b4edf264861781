//! Proxies that run another image than their namespace would get now: they wait for a restart. A label that is a tag
//! leads to the revision it points at.

use std::collections::BTreeMap;

use api::names::{DEFAULT_REVISION, ROOT_NAMESPACE, annotation, label, object};
use serde_json::Value;

use super::injection::proxy;
use super::{is_system, served};
use crate::message::{Message, PROXY_IMAGE_MISMATCH};
use crate::objects::{Objects, labels, name, namespace};

/// Most pods named in one message.
const NAMED: usize = 20;

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    let tags: BTreeMap<String, String> = objects
        .of_kind("MutatingWebhookConfiguration")
        .filter_map(|webhook| {
            let labels = labels(webhook);
            Some((labels.get(label::TAG)?.clone(), labels.get(label::REVISION)?.clone()))
        })
        .collect();
    for (of, namespace_object) in objects.namespaces().filter(|(name, _)| !is_system(name)) {
        let labels = labels(namespace_object);
        let name = match labels.get(label::NAMESPACE_INJECTION).map(String::as_str) {
            Some(label::INJECTION_ENABLED) => DEFAULT_REVISION,
            Some(_) => continue,
            None => match labels.get(label::REVISION) {
                Some(name) => name,
                None => continue,
            },
        };
        let revision = tags.get(name).map_or(name, String::as_str);
        let Some(expected) = image(objects, revision) else {
            continue;
        };
        let stale: Vec<&str> = objects
            .of_kind("Pod")
            .filter(|pod| namespace(pod) == of && !has_own_image(pod))
            .filter(|pod| {
                proxy(pod)
                    .and_then(|c| c["image"].as_str())
                    .is_some_and(|image| plain(image) != plain(&expected))
            })
            .map(self::name)
            .collect();
        if !stale.is_empty() {
            let more = if stale.len() > NAMED { " …" } else { "" };
            let names = stale.iter().take(NAMED).copied().collect::<Vec<_>>().join(" ");
            let remedy = if served::is_asleep(objects, revision) {
                format!(
                    ". Do not redeploy the pods yet: no istiod of revision {revision:?} is ready, and new pods are refused \
                     until one is."
                )
            } else {
                " and can be fixed by redeploying the pods.".to_owned()
            };
            messages.push(Message::about(
                PROXY_IMAGE_MISMATCH,
                namespace_object,
                format!(
                    "The Istio proxy images of the pods running in the namespace do not match the image defined in the \
                     injection configuration (pod names: [{names}{more}]). This often happens after upgrading the Istio \
                     control-plane{remedy}"
                ),
            ));
        }
    }
}

/// Does a pod say itself which image its proxy has?
fn has_own_image(pod: &Value) -> bool {
    pod["metadata"]["annotations"][annotation::PROXY_IMAGE]
        .as_str()
        .is_some_and(|image| !image.is_empty())
}

/// An image without its flavour: a mesh may use several.
fn plain(image: &str) -> &str {
    image
        .strip_suffix("-distroless")
        .or_else(|| image.strip_suffix("-debug"))
        .unwrap_or(image)
}

/// The image that a revision injects.
fn image(objects: &Objects, revision: &str) -> Option<String> {
    let configuration = objects.get("ConfigMap", ROOT_NAMESPACE, &object::sidecar_injector(revision))?;
    let values: Value = serde_json::from_str(configuration.pointer("/data/values")?.as_str()?).ok()?;
    let text = |pointer: &str| values.pointer(pointer).and_then(Value::as_str);
    let image = text("/global/proxy/image")?;
    if image.contains('/') {
        return Some(image.to_owned());
    }
    Some(format!("{}/{image}:{}", text("/global/hub")?, text("/global/tag")?))
}
