//! Injection webhooks that would both answer for one pod, or whose control plane is not there; validators alike.

use std::collections::{BTreeMap, BTreeSet};

use api::names::label;
use revision::selector::{Labels, Selector};
use revision::webhook::WEBHOOK_SUFFIX;
use serde_json::Value;

use super::served;
use crate::message::{INVALID_WEBHOOK, Message};
use crate::objects::{Objects, labels, name};
use crate::selectors;

/// Most revisions and tags that are combined; each costs a square of comparisons.
const MOST_NAMES: usize = 100;

struct Injector<'a> {
    configuration: &'a Value,
    name: String,
    namespaces: Selector,
    objects: Selector,
}

pub(super) fn check(objects: &Objects, messages: &mut Vec<Message>) {
    let mut injectors = Vec::new();
    for configuration in objects.of_kind("MutatingWebhookConfiguration") {
        for webhook in configuration
            .get("webhooks")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let webhook_name = webhook["name"].as_str().unwrap_or_default();
            if !webhook_name.ends_with(WEBHOOK_SUFFIX) {
                continue;
            }
            dangling(objects, configuration, webhook, messages);
            let (Some(namespaces), Some(pods)) = (
                selectors::read(&webhook["namespaceSelector"]),
                selectors::read(&webhook["objectSelector"]),
            ) else {
                continue;
            };
            let name = format!("{}/{webhook_name}", name(configuration));
            injectors.push(Injector {
                configuration,
                name,
                namespaces,
                objects: pods,
            });
        }
    }
    overlaps(&injectors, messages);
}

/// A validator whose Service is gone refuses, or waves through, every change of configuration.
pub(super) fn validators(objects: &Objects, messages: &mut Vec<Message>) {
    const VALIDATORS: [&str; 2] = ["istio-validator", "istiod-default-validator"];
    let is_ours = |configuration: &&Value| VALIDATORS.iter().any(|prefix| name(configuration).starts_with(prefix));
    if objects.of_kind("Service").next().is_none() {
        return;
    }
    for configuration in objects.of_kind("ValidatingWebhookConfiguration").filter(is_ours) {
        let webhooks = configuration["webhooks"].as_array().into_iter().flatten();
        let gone = webhooks.filter_map(|webhook| {
            let service = webhook.pointer("/clientConfig/service")?;
            let (namespace, name) = (service["namespace"].as_str()?, service["name"].as_str()?);
            let effect = match webhook["failurePolicy"].as_str() {
                Some("Ignore") => "Configuration is accepted without being looked at.",
                _ => "Every change of the configuration that it looks at is refused.",
            };
            objects.get("Service", namespace, name).is_none().then(|| {
                format!(
                    "Validator refers to a control plane service that does not exist: {namespace}/{name}. {effect}{}",
                    remedy(configuration)
                )
            })
        });
        let texts: BTreeSet<String> = gone.collect();
        messages.extend(
            texts
                .into_iter()
                .map(|text| Message::about(INVALID_WEBHOOK, configuration, text)),
        );
    }
}

/// How a configuration that leads nowhere is mended.
fn remedy(configuration: &Value) -> String {
    let labels = labels(configuration);
    match (labels.get(label::TAG), labels.get(label::REVISION)) {
        (Some(tag), _) => {
            format!(" Move the tag with 'istioctl tag set {tag} --revision <REVISION> --overwrite'.")
        }
        (None, Some(revision)) => format!(
            " Install the revision again, or remove what is left of it with 'istioctl uninstall --revision {revision}'."
        ),
        (None, None) => String::new(),
    }
}

fn dangling(objects: &Objects, configuration: &Value, webhook: &Value, messages: &mut Vec<Message>) {
    let Some(service) = webhook.pointer("/clientConfig/service") else {
        return;
    };
    let (namespace, name) = (
        service["namespace"].as_str().unwrap_or_default(),
        service["name"].as_str().unwrap_or_default(),
    );
    // Files alone need not hold the Service.
    if objects.of_kind("Service").next().is_some() && objects.get("Service", namespace, name).is_none() {
        messages.push(Message::about(
            INVALID_WEBHOOK,
            configuration,
            format!(
                "Injector refers to a control plane service that does not exist: {namespace}/{name}. {}.{}",
                served::effect(webhook),
                remedy(configuration)
            ),
        ));
    }
}

/// For every combination of labels that means something, at most one webhook may answer.
fn overlaps(injectors: &[Injector<'_>], messages: &mut Vec<Message>) {
    let names: BTreeSet<String> = injectors
        .iter()
        .flat_map(|injector| {
            let labels = labels(injector.configuration);
            [label::REVISION, label::TAG]
                .into_iter()
                .filter_map(move |key| labels.get(key).cloned())
                .collect::<Vec<_>>()
        })
        .take(MOST_NAMES)
        .collect();
    let namespaces = combinations(label::NAMESPACE_INJECTION, &["enabled", "disabled"], &names);
    let pods = combinations(label::SIDECAR_INJECT, &["true", "false"], &names);
    let mut overlapping: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for namespace in &namespaces {
        let candidates: Vec<usize> = (0..injectors.len())
            .filter(|index| injectors[*index].namespaces.matches(namespace))
            .collect();
        if candidates.len() < 2 {
            continue;
        }
        for pod in &pods {
            let hits: Vec<usize> = candidates
                .iter()
                .copied()
                .filter(|index| injectors[*index].objects.matches(pod))
                .collect();
            if hits.len() > 1 {
                for hit in &hits {
                    overlapping
                        .entry(*hit)
                        .or_default()
                        .extend(hits.iter().filter(|other| *other != hit));
                }
            }
        }
    }
    for (index, others) in overlapping {
        let others: Vec<&str> = others.iter().map(|other| injectors[*other].name.as_str()).collect();
        messages.push(Message::about(
            INVALID_WEBHOOK,
            injectors[index].configuration,
            format!(
                "Webhook overlaps with others: [{}]. This may cause injection to occur twice.",
                others.join(" ")
            ),
        ));
    }
}

fn combinations(key: &str, values: &[&str], names: &BTreeSet<String>) -> Vec<Labels> {
    let mut all = Vec::new();
    for value in std::iter::once(None).chain(values.iter().map(Some)) {
        for name in std::iter::once(None).chain(names.iter().map(Some)) {
            let mut labels = Labels::new();
            if let Some(value) = value {
                labels.insert(key.to_owned(), (*value).to_owned());
            }
            if let Some(name) = name {
                labels.insert(label::REVISION.to_owned(), name.clone());
            }
            all.push(labels);
        }
    }
    all
}
