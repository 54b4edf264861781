//! Workloads that wait for injection to fill in their proxy's image, and will not be injected.

use api::names::PROXY_CONTAINER;
use revision::selector::{Labels, Selector};
use serde_json::Value;

use super::fields::{list, map, text};
use crate::message::{IMAGE_AUTO_ERROR, IMAGE_AUTO_WARNING, Message};
use crate::objects::{Objects, labels, name, namespace};
use crate::selectors;

/// What stands for the image that injection knows.
const AUTO: &str = "auto";

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    let injectors: Vec<(Selector, Selector)> = objects
        .of_kind("MutatingWebhookConfiguration")
        .flat_map(|configuration| list(configuration, "/webhooks"))
        .filter(|webhook| text(webhook, "/name").ends_with("istio.io"))
        .filter_map(|webhook| {
            Some((
                selectors::read(&webhook["namespaceSelector"])?,
                selectors::read(&webhook["objectSelector"])?,
            ))
        })
        .collect();
    // A pod that is there was not injected, whatever the webhooks say now.
    for pod in objects.of_kind("Pod").filter(|pod| waits(&pod["spec"])) {
        let text = format!(
            "Pod {} contains `image: auto` but does not match any Istio injection webhook selectors.",
            name(pod)
        );
        messages.push(Message::about(IMAGE_AUTO_ERROR, pod, text));
    }
    for deployment in objects.of_kind("Deployment") {
        let template = &deployment["spec"]["template"];
        if !waits(&template["spec"]) {
            continue;
        }
        let of = match namespace(deployment) {
            "" => "default",
            of => of,
        };
        let namespace_labels = objects.get("Namespace", "", of).map(labels).unwrap_or_default();
        let pod_labels: Labels = map(&template["metadata"]["labels"]);
        let injected = injectors
            .iter()
            .any(|(namespaces, pods)| namespaces.matches(&namespace_labels) && pods.matches(&pod_labels));
        if !injected {
            let text = format!(
                "Deployment {} contains `image: auto` but does not match any Istio injection webhook selectors.",
                name(deployment)
            );
            messages.push(Message::about(IMAGE_AUTO_WARNING, deployment, text));
        }
    }
}

fn waits(spec: &Value) -> bool {
    list(spec, "/containers").any(|c| c["name"] == PROXY_CONTAINER && c["image"] == AUTO)
}
