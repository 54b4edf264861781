//! `tag list`, `remove`, `set` and `generate` on given objects.

use std::path::Path;

use install::object::Object;
use install::tag::{self, Inventory, Request, TagObjects};
use install::yaml;
use istioctl::command::tag::caution;
use revision::name::{Revision, Tag};
use serde_json::{Value, json};

use super::Case;
use crate::data::read;

pub(super) fn check(case: &Case, folder: &Path) -> Result<(), String> {
    let inventory = inventory(case, folder)?;
    match case.args.get(1).map(String::as_str) {
        Some("list") => {
            let rows = tag::list(&inventory);
            contains(case, &serde_json::to_string(&rows).map_err(|error| error.to_string())?)
        }
        Some("remove") => remove(case, &inventory),
        Some("set" | "generate") => make(case, &inventory),
        _ => Err(format!("unsupported: {}", case.args.join(" "))),
    }
}

fn contains(case: &Case, output: &str) -> Result<(), String> {
    for fragment in case.list("expectedContains").filter_map(Value::as_str) {
        if !output.contains(fragment) {
            return Err(format!("expected {fragment:?} in {output:?}"));
        }
    }
    Ok(())
}

fn remove(case: &Case, inventory: &Inventory) -> Result<(), String> {
    let tag = case.args.get(2).map(String::as_str).unwrap_or_default();
    let removed = match tag::removal(inventory, tag) {
        Ok(removed) => removed,
        Err(error) => return expect_error(case, &error.to_string()),
    };
    let asked =
        caution(inventory, tag, &Default::default()).filter(|_| !case.args.iter().any(|argument| argument == "-y"));
    if let Some(question) = &asked {
        contains(case, question)?;
    }
    let left = |objects: &[Object]| {
        objects
            .iter()
            .filter(|object| asked.is_some() || !removed.contains(object))
            .count()
    };
    for (key, count) in [
        ("webhooksAfter", left(&inventory.webhooks)),
        ("servicesAfter", left(&inventory.services)),
        ("validatingWebhooksAfter", left(&inventory.validators)),
    ] {
        if case.more.get(key).is_some_and(|expected| *expected != json!(count)) {
            return Err(format!("{key}: {count}"));
        }
    }
    Ok(())
}

fn expect_error(case: &Case, error: &str) -> Result<(), String> {
    let expected = case.text("error");
    if !expected.is_empty() && error.contains(expected) {
        Ok(())
    } else {
        Err(format!("error {error:?}, expected {expected:?}"))
    }
}

fn argument<'a>(case: &'a Case, flag: &str) -> Option<&'a str> {
    case.args
        .iter()
        .skip_while(|argument| *argument != flag)
        .nth(1)
        .map(String::as_str)
}

fn make(case: &Case, inventory: &Inventory) -> Result<(), String> {
    let mut revision = argument(case, "--revision").unwrap_or_default().to_owned();
    if revision.starts_with('<') {
        revision = inventory
            .webhooks
            .first()
            .map(|webhook| webhook.label("istio.io/rev").to_owned())
            .unwrap_or_default();
    }
    let request = Request {
        tag: Tag::parse(case.args.get(2).map(String::as_str).unwrap_or_default()).map_err(|error| error.to_string())?,
        revision: Revision::parse(&revision).map_err(|error| error.to_string())?,
        namespace: argument(case, "--istioNamespace").unwrap_or("istio-system").to_owned(),
        overwrite: case.args.iter().any(|argument| argument == "--overwrite"),
        // Cases name no pods; their control planes are meant to be there.
        force: true,
        take_over: true,
        automatic: false,
        webhook_name: None,
        labels: Default::default(),
    };
    let generate = case.args.get(1).is_some_and(|verb| verb == "generate");
    match tag::build(&request, inventory, generate) {
        Ok(built) if case.text("error").is_empty() => expect(case, &built),
        Ok(_) => Err(format!("expected error {:?}", case.text("error"))),
        Err(error) => expect_error(case, &error.to_string()),
    }
}

fn expect(case: &Case, built: &TagObjects) -> Result<(), String> {
    let expected = &case.more["expected"];
    if let Some(change) = expected.get("istio-sidecar-injector webhooks") {
        let changed = built.deactivate.is_some();
        return if changed == (change == "changed") {
            Ok(())
        } else {
            Err(format!("webhooks changed: {changed}"))
        };
    }
    let kind = match case.name.split('/').next() {
        Some("tag-generate-validating") => "ValidatingWebhookConfiguration",
        Some("tag-generate-service") => "Service",
        _ => "MutatingWebhookConfiguration",
    };
    let object = built
        .apply
        .iter()
        .find(|object| object.kind() == kind)
        .ok_or_else(|| format!("no {kind}"))?;
    let mut wrong = Vec::new();
    let mut same = |what: &str, actual: Value, expected: &Value| {
        if actual != *expected {
            wrong.push(format!("{what}: expected {expected}, got {actual}"));
        }
    };
    for (key, value) in expected["labels"].as_object().into_iter().flatten() {
        same(key, object.label(key).into(), value);
    }
    for (key, value) in expected["selector"].as_object().into_iter().flatten() {
        same(key, object.0["spec"]["selector"][key].clone(), value);
    }
    for (key, pointer) in [("name", "/metadata/name"), ("namespace", "/metadata/namespace")] {
        if let Some(value) = expected.get(key) {
            same(key, object.text(pointer).into(), value);
        }
    }
    let webhooks = object.0["webhooks"].as_array().cloned().unwrap_or_default();
    if let Some(count) = expected.get("webhooks") {
        same("webhooks", webhooks.len().into(), count);
    }
    for webhook in &webhooks {
        for (key, value) in expected["eachWebhook"].as_object().into_iter().flatten() {
            let pointer = match key.as_str() {
                "service" => "/clientConfig/service/name",
                "serviceNamespace" => "/clientConfig/service/namespace",
                "url" => "/clientConfig/url",
                "caBundle" => "/clientConfig/caBundle",
                "reinvocationPolicy" => "/reinvocationPolicy",
                "failurePolicy" => "/failurePolicy",
                other => return Err(format!("unsupported: expectation {other}")),
            };
            same(key, webhook.pointer(pointer).cloned().unwrap_or(Value::Null), value);
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

/// Objects are files of the set, or kind, name, namespace and labels.
fn inventory(case: &Case, folder: &Path) -> Result<Inventory, String> {
    let mut inventory = Inventory::default();
    let canonical = case.more.get("canonicalWebhook").into_iter();
    for value in case.list("objects").chain(case.list("existing")).chain(canonical) {
        let objects = match value.as_str() {
            Some(file) => yaml::documents(&read(&folder.join(file))?).map_err(|error| error.to_string())?,
            None => vec![expanded(value)],
        };
        for object in objects.into_iter().map(Object) {
            match object.kind() {
                "MutatingWebhookConfiguration" => inventory.webhooks.push(object),
                "ValidatingWebhookConfiguration" => inventory.validators.push(object),
                "Service" => inventory.services.push(object),
                "Namespace" => inventory.namespaces.push(object),
                kind => return Err(format!("unsupported: object {kind}")),
            }
        }
    }
    if case.name.starts_with("tag-generate-service/") && inventory.webhooks.is_empty() {
        // The case is about the Service alone and leaves its revision out.
        let file = folder.join("tag/revision.yaml");
        inventory.webhooks = yaml::documents(&read(&file)?)
            .map_err(|error| error.to_string())?
            .into_iter()
            .map(Object)
            .collect();
    }
    Ok(inventory)
}

fn expanded(value: &Value) -> Value {
    let mut metadata = json!({"name": value["name"]});
    for key in ["namespace", "labels"] {
        if let Some(field) = value.get(key) {
            metadata[key] = field.clone();
        }
    }
    let api_version = match value["kind"].as_str() {
        Some("Service" | "Namespace") => "v1",
        _ => "admissionregistration.k8s.io/v1",
    };
    let mut object = json!({"apiVersion": api_version, "kind": value["kind"], "metadata": metadata});
    if let Some(webhooks) = value.get("webhooks") {
        object["webhooks"] = webhooks.clone();
    }
    object
}
