//! Watches definitions: accepts their names, registers their versions, removes their objects with them.

use super::{
    kind::CustomKind,
    names::{self, Taken},
};
use crate::{
    Core, meta,
    objects::text,
    resource::{ResourceInfo, SubresourceInfo},
    schema::time,
};
use drydock_store::{Change, Expect, Stored};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Keeps a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
const VERBS: [&str; 8] = [
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];
/// How often a terminating definition is looked at while its objects' finalizers are pending.
const RETRY: Duration = Duration::from_millis(200);

fn prefix(core: &Core) -> String {
    core.registry
        .any_version("apiextensions.k8s.io", "customresourcedefinitions")
        .map_or_else(
            || "apiextensions.k8s.io/customresourcedefinitions/".into(),
            |r| r.prefix(""),
        )
}

/// Registers what is established already; to be called before the server answers.
pub fn load(core: &Core) {
    for stored in core.store.list(&prefix(core)).items {
        register(core, &stored.value);
    }
}

/// Runs until the store closes.
pub async fn run(core: Arc<Core>) {
    let prefix = prefix(&core);
    loop {
        let (listing, mut watch) = core.store.list_and_watch(&prefix);
        for stored in &listing.items {
            reconcile(&core, &stored.key).await;
        }
        let mut waiting: BTreeSet<String> = BTreeSet::new();
        loop {
            let event = if waiting.is_empty() {
                Ok(watch.next().await)
            } else {
                tokio::time::timeout(RETRY, watch.next()).await
            };
            match event {
                Ok(None) => break,
                Ok(Some(event)) => {
                    if event.change == Change::Deleted {
                        waiting.remove(&event.key);
                        unregister(&core, &event.value);
                    } else if reconcile(&core, &event.key).await {
                        waiting.insert(event.key.clone());
                    }
                }
                Err(_) => {
                    for key in std::mem::take(&mut waiting) {
                        if reconcile(&core, &key).await {
                            waiting.insert(key);
                        }
                    }
                }
            }
        }
    }
}

/// Brings one definition forward; true when it waits for its objects to go.
async fn reconcile(core: &Core, key: &str) -> bool {
    let Some(stored) = core.store.get(key) else {
        return false;
    };
    let definition = stored.value.as_ref();
    if meta::is_deleting(definition) {
        return terminate(core, &stored).await;
    }
    let mut next = definition.clone();
    settle(core, definition, &mut next["status"]);
    register(core, &next);
    if next["status"] != definition["status"]
        && let Err(error) = core.store.put(key, Expect::Revision(stored.revision), next).await
    {
        // Somebody wrote in between: their event brings us here again.
        tracing::debug!(key, %error, "status of a definition not written");
    }
    false
}

/// Computes accepted names and conditions.
fn settle(core: &Core, definition: &Value, status: &mut Value) {
    let group = text(definition, &["spec", "group"]);
    let mut taken = Taken::default();
    for other in core.store.list(&prefix(core)).items {
        let other = other.value;
        if text(&other, &["spec", "group"]) == group && meta::name(&other) != meta::name(definition) {
            taken.add(&other["status"]["acceptedNames"]);
        }
    }
    let now = time::now();
    let (accepted, (state, reason, message)) =
        names::accept(&definition["spec"]["names"], &status["acceptedNames"], &taken);
    status["acceptedNames"] = accepted;
    names::set_condition(status, "NamesAccepted", state, reason, &message, &now);
    if state == "True" {
        let text = "the initial names have been accepted";
        names::set_condition(status, "Established", "True", "InitialNamesAccepted", text, &now);
    } else if !names::is_true(status, "Established") {
        names::set_condition(
            status,
            "Established",
            "False",
            "NotAccepted",
            "not all names are accepted",
            &now,
        );
    }
}

/// Removes the objects of a terminating definition, then its finalizer.
async fn terminate(core: &Core, stored: &Stored) -> bool {
    let definition = stored.value.as_ref();
    if !meta::finalizers(definition).iter().any(|f| f == FINALIZER) {
        return false;
    }
    register(core, definition);
    let (group, plural) = (
        text(definition, &["spec", "group"]),
        text(definition, &["spec", "names", "plural"]),
    );
    for object in core.store.list(&format!("{group}/{plural}/")).items {
        remove(core, &object).await;
    }
    if !core.store.list(&format!("{group}/{plural}/")).items.is_empty() {
        return true;
    }
    let left: Vec<String> = meta::finalizers(definition)
        .into_iter()
        .filter(|f| f != FINALIZER)
        .collect();
    let outcome = if left.is_empty() {
        core.store.remove(&stored.key, Expect::Revision(stored.revision)).await
    } else {
        let mut next = definition.clone();
        meta::set(&mut next, "finalizers", json!(left));
        core.store
            .put(&stored.key, Expect::Revision(stored.revision), next)
            .await
    };
    outcome.is_err()
}

async fn remove(core: &Core, object: &Stored) {
    let outcome = if meta::finalizers(&object.value).is_empty() {
        core.store.remove(&object.key, Expect::Revision(object.revision)).await
    } else if meta::is_deleting(&object.value) {
        return;
    } else {
        let mut next = object.value.as_ref().clone();
        meta::set(&mut next, "deletionTimestamp", time::now());
        meta::set(&mut next, "deletionGracePeriodSeconds", 0);
        core.store
            .put(&object.key, Expect::Revision(object.revision), next)
            .await
    };
    if let Err(error) = outcome {
        tracing::debug!(key = object.key, %error, "custom object not removed, will be tried again");
    }
}

fn unregister(core: &Core, definition: &Value) {
    let (group, plural) = (
        text(definition, &["spec", "group"]),
        text(definition, &["spec", "names", "plural"]),
    );
    core.registry.retain_versions(group, plural, &[]);
}

/// Makes the served versions known if the definition is established.
fn register(core: &Core, definition: &Value) {
    if !names::is_true(&definition["status"], "Established") {
        return;
    }
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let storage = versions.iter().find(|v| v["storage"] == true).unwrap_or(&Value::Null);
    let served: Vec<&Value> = versions.iter().filter(|v| v["served"] == true).collect();
    for version in &served {
        core.registry.put(resource(definition, version, storage));
    }
    let keep: Vec<&str> = served.iter().map(|v| text(v, &["name"])).collect();
    core.registry
        .retain_versions(text(spec, &["group"]), text(spec, &["names", "plural"]), &keep);
}

fn resource(definition: &Value, version: &Value, storage: &Value) -> ResourceInfo {
    let spec = &definition["spec"];
    let names = &definition["status"]["acceptedNames"];
    let list = |key: &str| -> Vec<String> {
        names[key]
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let (group, name, kind) = (text(spec, &["group"]), text(version, &["name"]), text(names, &["kind"]));
    let plural = text(names, &["plural"]);
    let warning = (version["deprecated"] == true).then(|| match text(version, &["deprecationWarning"]) {
        "" => format!("{group}/{name} {kind} is deprecated"),
        own => own.to_owned(),
    });
    ResourceInfo {
        group: group.into(),
        version: name.into(),
        kind: kind.into(),
        list_kind: text(names, &["listKind"]).into(),
        plural: plural.into(),
        singular: text(names, &["singular"]).into(),
        short_names: list("shortNames"),
        categories: list("categories"),
        namespaced: text(spec, &["scope"]) == "Namespaced",
        verbs: VERBS.iter().map(|v| (*v).to_owned()).collect(),
        subresources: subresources(version, kind),
        storage: format!("{group}/{plural}"),
        storage_version: text(storage, &["name"]).into(),
        strategy: Arc::new(CustomKind::new(meta::name(definition), version, storage)),
        custom: true,
        warning,
    }
}

fn subresources(version: &Value, kind: &str) -> Vec<SubresourceInfo> {
    let verbs = || ["get", "patch", "update"].iter().map(|v| (*v).to_owned()).collect();
    let mut out = Vec::new();
    if version["subresources"]["status"].is_object() {
        out.push(SubresourceInfo {
            name: "status".into(),
            kind: kind.into(),
            verbs: verbs(),
            ..SubresourceInfo::default()
        });
    }
    if version["subresources"]["scale"].is_object() {
        out.push(SubresourceInfo {
            name: "scale".into(),
            kind: "Scale".into(),
            group: "autoscaling".into(),
            version: "v1".into(),
            verbs: verbs(),
        });
    }
    out
}
