//! The built-in resources, read from the table `builtin.resources`.
//!
//! A line without indentation is a resource: `groupVersion plural singular Kind scope verbs shortNames categories`
//! (`*` all verbs, `-` none); an indented one a subresource: `name Kind groupVersion verbs`.

use std::sync::Arc;

use super::{Registry, ResourceInfo, Strategy, SubresourceInfo};

static TABLE: &str = include_str!("builtin.resources");

const ALL: &str = "create,delete,deletecollection,get,list,patch,update,watch";

fn list(text: &str) -> Vec<String> {
    match text {
        "-" => Vec::new(),
        "*" => list(ALL),
        other => other.split(',').map(str::to_owned).collect(),
    }
}

fn group_version(text: &str) -> (&str, &str) {
    match text {
        "-" => ("", ""),
        other => other.split_once('/').unwrap_or(("", other)),
    }
}

/// Versions whose objects are stored as another one's: same plural, in this group and version.
fn stored_as(group: &str, version: &str, plural: &str) -> (String, String) {
    match (group, version, plural) {
        ("events.k8s.io", _, "events") => ("/events".into(), "v1".into()),
        ("autoscaling", _, "horizontalpodautoscalers") => (format!("{group}/{plural}"), "v2".into()),
        _ => (format!("{group}/{plural}"), version.to_owned()),
    }
}

/// The warning that each request for a deprecated kind gets.
fn deprecation(group: &str, kind: &str) -> Option<String> {
    matches!((group, kind), ("", "Endpoints"))
        .then(|| "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned())
}

/// Registers every built-in resource; `strategy` says what a kind demands.
pub fn register(registry: &Registry, strategy: impl Fn(&str, &str, &str) -> Arc<dyn Strategy>) {
    let mut current: Option<ResourceInfo> = None;
    for line in TABLE.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name, kind, gv, verbs] => {
                let (group, version) = group_version(gv);
                if let Some(owner) = &mut current {
                    owner.subresources.push(SubresourceInfo {
                        name: (*name).to_owned(),
                        kind: (*kind).to_owned(),
                        group: group.to_owned(),
                        version: version.to_owned(),
                        verbs: list(verbs),
                    });
                }
            }
            [gv, plural, singular, kind, scope, verbs, short, categories] => {
                if let Some(done) = current.take() {
                    registry.put(done);
                }
                let (group, version) = group_version(gv);
                let (storage, storage_version) = stored_as(group, version, plural);
                current = Some(ResourceInfo {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    kind: (*kind).to_owned(),
                    list_kind: format!("{kind}List"),
                    plural: (*plural).to_owned(),
                    singular: (*singular).to_owned(),
                    short_names: list(short),
                    categories: list(categories),
                    namespaced: *scope == "namespaced",
                    verbs: list(verbs),
                    subresources: Vec::new(),
                    storage,
                    storage_version,
                    strategy: strategy(group, version, kind),
                    custom: false,
                    warning: deprecation(group, kind),
                });
            }
            _ => {}
        }
    }
    if let Some(done) = current {
        registry.put(done);
    }
}
