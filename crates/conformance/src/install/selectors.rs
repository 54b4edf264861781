//! `webhook-selector-cases.yaml`: which control plane the webhooks of two installations choose for a pod.

use std::collections::BTreeMap;
use std::path::Path;

use install::assets::Assets;
use install::object::Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use revision::selector::{Labels, Selector};
use serde::Deserialize;
use serde_json::Value;

use super::generate;
use crate::data::cases;
use crate::report;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    installs: String,
    namespace_labels: Labels,
    pod_labels: Labels,
    service: String,
}

/// A webhook as rendered: its selectors, and the Service it calls.
struct Webhook {
    namespaces: Selector,
    objects: Selector,
    service: String,
}

pub(super) fn run(folder: &Path) -> Result<Vec<report::Case>, String> {
    let cases: Vec<Case> = cases(&folder.join("webhook-selector-cases.yaml"))?;
    let assets = Assets::embedded();
    let installed = |flags: &str| -> Result<Vec<Webhook>, String> {
        let minimal = "--set profile=minimal --set components.base.enabled=false";
        webhooks(&generate(&[], &format!("{minimal} {flags}"), &assets)?)
    };
    let canary = installed("--set revision=canary")?;
    let mut unnamed: BTreeMap<&str, Vec<Webhook>> = BTreeMap::new();
    let mut results = Vec::new();
    for case in cases {
        // "<the unnamed revision, and how> + canary"
        let first = match case.installs.split(" + ").next() {
            Some("enableNamespacesByDefault") => "--set values.sidecarInjectorWebhook.enableNamespacesByDefault=true",
            _ => "",
        };
        if !unnamed.contains_key(first) {
            unnamed.insert(first, installed(first)?);
        }
        let webhooks: Vec<&Webhook> = unnamed[first].iter().chain(&canary).collect();
        let result = check(&case, &webhooks);
        results.push(report::Case::new(case.name, result));
    }
    Ok(results)
}

fn webhooks(objects: &[Object]) -> Result<Vec<Webhook>, String> {
    let mut found = Vec::new();
    for object in objects
        .iter()
        .filter(|object| object.kind() == "MutatingWebhookConfiguration")
    {
        for webhook in object.0["webhooks"].as_array().into_iter().flatten() {
            let selector = |field: &str| -> Result<Selector, String> {
                let selector: LabelSelector =
                    serde_json::from_value(webhook[field].clone()).map_err(|error| error.to_string())?;
                Ok(Selector::from(&selector))
            };
            let service = webhook
                .pointer("/clientConfig/service/name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            found.push(Webhook {
                namespaces: selector("namespaceSelector")?,
                objects: selector("objectSelector")?,
                service,
            });
        }
    }
    Ok(found)
}

fn check(case: &Case, webhooks: &[&Webhook]) -> Result<(), String> {
    let fits = |webhook: &&&Webhook| {
        webhook.namespaces.matches(&case.namespace_labels) && webhook.objects.matches(&case.pod_labels)
    };
    let chosen: Vec<&str> = webhooks
        .iter()
        .filter(fits)
        .map(|webhook| webhook.service.as_str())
        .collect();
    let expected: Vec<&str> = if case.service.is_empty() {
        Vec::new()
    } else {
        vec![&case.service]
    };
    if chosen == expected {
        Ok(())
    } else {
        Err(format!("expected {expected:?}, got {chosen:?}"))
    }
}
