//! Golden set `validation`: custom resources that must be accepted or refused, by the definitions of the base chart and
//! by istiod's webhook.
//!
//! The definitions are judged by drydock's API server, as a strict dry run; the webhook by the function that istiod's
//! handler calls.

use std::collections::BTreeMap;
use std::path::Path;

use api::kind::Kind;
use serde::Deserialize;
use serde_json::Value;

use crate::data::{cases, read};
use crate::kube_api::client::Admin;
use crate::report;
use crate::server::with_server;

/// Definitions as the chart installs them.
const DEFINITIONS: &str = "charts/base/files/crd-all.gen.yaml";

/// Refusals of a definition that a webhook cannot share: it reads an absent field and an empty one alike, numbers of
/// enums too, ignores what it does not know, and leaves the rules of EnvoyFilter to the definition.
const SCHEMA_ONLY: [&str; 4] = [
    "should be at least 1 chars long",
    r#": "null""#,
    "unknown field",
    "EnvoyFilter",
];
/// What only the webhook sees.
const WEBHOOK_ONLY: &str = "jwks";

#[derive(Deserialize)]
struct Case {
    name: String,
    file: String,
    document: usize,
    expect: Expect,
    #[serde(default)]
    error: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Valid,
    Invalid,
}

/// Runs every case of `<data>/validation`.
///
/// # Errors
/// If the set itself cannot be read, or if the API server refuses a definition.
pub fn run(data: &Path) -> Result<Vec<report::Case>, String> {
    let folder = data.join("validation");
    let cases: Vec<Case> = cases(&folder.join("cases.yaml"))?;
    let mut files: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for case in &cases {
        if !files.contains_key(&case.file) {
            let documents = serde_saphyr::from_multiple(&read(&folder.join(&case.file))?)
                .map_err(|error| format!("{}: {error}", case.file))?;
            files.insert(case.file.clone(), documents);
        }
    }
    let assets = install::assets::Assets::embedded();
    let definitions = assets
        .get(DEFINITIONS)
        .ok_or_else(|| format!("{DEFINITIONS} is missing"))?;
    let results = with_server(async |own| {
        let admin = Admin(own.target().clone());
        admin.define(definitions).await?;
        let mut results = Vec::new();
        for case in &cases {
            let result = match files[&case.file].get(case.document) {
                Some(document) => check(case, document, &admin).await,
                None => Err(format!("{} has no document {}", case.file, case.document)),
            };
            results.push(report::Case::new(case.name.clone(), result));
        }
        Ok(results)
    });
    results.map_err(|error| format!("{error:#}"))
}

async fn check(case: &Case, document: &Value, admin: &Admin) -> Result<(), String> {
    let mut object = document.clone();
    if let Some(map) = object.as_object_mut() {
        map.shift_remove("_err");
    }
    let schema = by_definition(&object, admin).await?;
    let webhook = analyze::validation::validate(&object).map(drop);
    match (case.expect, &schema) {
        (Expect::Valid, Err(message)) => return Err(format!("refused by the definition: {message}")),
        (Expect::Invalid, Ok(())) => return Err(format!("accepted by the definition, wanted: {}", case.error)),
        (Expect::Invalid, Err(message)) if !has_fragment(message, &case.error) => {
            return Err(format!("the definition says {message:?}, wanted: {}", case.error));
        }
        _ => {}
    }
    match (&schema, webhook) {
        (Ok(()), Err(message)) if !message.contains(WEBHOOK_ONLY) => Err(format!("refused by the webhook: {message}")),
        (Err(message), Ok(())) if !SCHEMA_ONLY.iter().any(|known| message.contains(known)) => {
            Err(format!("accepted by the webhook; the definition says: {message}"))
        }
        _ => Ok(()),
    }
}

/// What the API server says of the object.
async fn by_definition(object: &Value, admin: &Admin) -> Result<Result<(), String>, String> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or_default();
    let kind = Kind::find(group, text("kind")).ok_or_else(|| format!("{} is no kind of ours", text("kind")))?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let path = format!(
        "/apis/{group}/{version}/namespaces/{namespace}/{}?dryRun=All&fieldValidation=Strict",
        kind.plural
    );
    let answer = admin
        .send("POST", &path, "application/json", Some(object))
        .await
        .map_err(|error| format!("{error:#}"))?;
    if answer.status == 201 {
        return Ok(Ok(()));
    }
    let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    Ok(Err(status["message"].as_str().unwrap_or("(no message)").to_owned()))
}

/// Whether a message has the fragment. The recorded words are an older library's: it names the type of a value that a
/// rule refuses, and it does not drop a `null` before it looks for required fields, as a server does.
fn has_fragment(message: &str, fragment: &str) -> bool {
    let plain = |text: &str| {
        let mut text = text.split_whitespace().collect::<Vec<&str>>().join(" ");
        for kind in ["object", "integer", "string", "array", "number", "boolean"] {
            text = text.replace(&format!("Invalid value: \"{kind}\": "), "Invalid value: ");
        }
        text
    };
    let (message, fragment) = (plain(message), plain(fragment));
    let without_value = fragment.split_once(": Invalid value: ").is_some_and(|(field, words)| {
        message.contains(&format!("{field}: Invalid value: ")) && message.contains(words)
    });
    let absent = fragment
        .split_once(" in body must be of type")
        .filter(|_| fragment.ends_with(r#": "null""#))
        .is_some_and(|(field, _)| message.contains(&format!("{field}: Required value")));
    message.contains(&fragment) || without_value || absent
}
