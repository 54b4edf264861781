//! Injection webhooks that would both answer for one pod, or whose control plane is not there; validators alike.

use std::collections::{BTreeMap, BTreeSet};

use api::names::label;
use revision::selector::{Labels, Requirement, Selector};
use revision::webhook::WEBHOOK_SUFFIX;
use serde_json::Value;

use super::{remedy, served};
use crate::message::{INVALID_WEBHOOK, Level, Message};
use crate::objects::{Objects, labels, name};
use crate::selectors;

/// How often labels are held against a selector, at most: enough for hundreds of revisions and tags.
const MOST_COMPARISONS: usize = 2_000_000;

struct Injector<'a> {
    configuration: &'a Value,
    name: String,
    namespaces: Selector,
    objects: Selector,
}

impl Injector<'_> {
    /// Revisions and tags that it knows: by its own labels, or by what it selects.
    fn names(&self) -> BTreeSet<String> {
        let labels = labels(self.configuration);
        let own = [label::REVISION, label::TAG]
            .into_iter()
            .filter_map(|key| labels.get(key).cloned());
        let requirements = self.namespaces.0.iter().chain(&self.objects.0);
        let selected = requirements.flat_map(|requirement| match requirement {
            Requirement::In(key, values) | Requirement::NotIn(key, values) if key == label::REVISION => {
                values.as_slice()
            }
            _ => &[],
        });
        own.chain(selected.cloned()).collect()
    }
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
                    mended(configuration)
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
fn mended(configuration: &Value) -> String {
    let labels = labels(configuration);
    match (labels.get(label::TAG), labels.get(label::REVISION)) {
        (Some(tag), _) => format!(" Move the tag with {}.", remedy::moving(configuration, tag)),
        (None, Some(revision)) => format!(
            " Install the revision again, or {}.",
            remedy::leaving(configuration, revision)
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
        let text = format!(
            "Injector refers to a control plane service that does not exist: {namespace}/{name}. {}.{}",
            served::effect(webhook),
            mended(configuration)
        );
        let message = Message::about(INVALID_WEBHOOK, configuration, text);
        // The webhooks of a configuration mostly call the same one.
        if messages.last() != Some(&message) {
            messages.push(message);
        }
    }
}

/// For every combination of labels that means something, at most one webhook may answer.
fn overlaps(injectors: &[Injector<'_>], messages: &mut Vec<Message>) {
    let names: BTreeSet<String> = injectors.iter().flat_map(Injector::names).collect();
    // Those that answer together; most combinations of labels give the same.
    let mut together: BTreeSet<Vec<usize>> = BTreeSet::new();
    let mut left = MOST_COMPARISONS;
    'all: for namespace in combinations(label::NAMESPACE_INJECTION, &["enabled", "disabled"], &names) {
        let candidates: Vec<usize> = (0..injectors.len())
            .filter(|index| injectors[*index].namespaces.matches(&namespace))
            .collect();
        left = left.saturating_sub(injectors.len());
        if candidates.len() < 2 {
            continue;
        }
        // A name that none of them knows is to all of them like any other.
        let known = candidates.iter().flat_map(|index| injectors[*index].names()).collect();
        for pod in combinations(label::SIDECAR_INJECT, &["true", "false"], &known) {
            let Some(rest) = left.checked_sub(candidates.len()) else {
                messages.push(too_many(injectors.len()));
                break 'all;
            };
            left = rest;
            let hits: Vec<usize> = candidates
                .iter()
                .copied()
                .filter(|index| injectors[*index].objects.matches(&pod))
                .collect();
            if hits.len() > 1 {
                together.insert(hits);
            }
        }
    }
    let mut overlapping: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for hits in &together {
        for hit in hits {
            let others = hits.iter().filter(|other| *other != hit);
            overlapping.entry(*hit).or_default().extend(others);
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

/// What is not looked at is told: silence would mean that all is well.
fn too_many(injectors: usize) -> Message {
    let text = format!(
        "{injectors} injection webhooks are too many to compare each with each, so some that overlap may not be told here. \
         Remove those of revisions and tags that nobody follows: 'istioctl x revision list' and 'istioctl tag list' name them."
    );
    Message::of_cluster(INVALID_WEBHOOK, text).at(Level::Warning)
}

/// Labels of namespaces, or of pods: with one value of the key or none, and with one of the names or none.
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
