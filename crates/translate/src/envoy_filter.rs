//! EnvoyFilters: patches to what a class would be sent otherwise.
//!
//! Patches are applied to finished resources. A class that none concerns shares its resources as if there were none.

mod clusters;
mod listeners;
mod merge;
mod place;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::networking::EnvoyFilter;
use mesh::{Config, Snapshot};
use serde::Deserialize;
use serde_json::Value as Json;
use xds::envoy::config::core::v3::TypedExtensionConfig;
use xds::resource::Resource;

use crate::graph::{ClassId, Cx};
use crate::proxy::ProxyClass;
use crate::resource_type::ResourceType;

/// Namespace and name of an EnvoyFilter, and index of a patch.
pub type PatchId = (Arc<str>, Arc<str>, usize);

/// Where in a proxy a patch applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Inbound,
    Outbound,
    Gateway,
}

/// What a patch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Merge,
    Add,
    Remove,
    InsertBefore,
    InsertAfter,
    InsertFirst,
    Replace,
}

/// A patch as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    apply_to: String,
    r#match: Json,
    patch: WrittenPatch,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WrittenPatch {
    operation: String,
    value: Json,
}

/// A patch that concerns a class.
#[derive(Debug)]
struct Patch {
    apply_to: String,
    context: String,
    condition: Json,
    operation: Operation,
    value: Json,
}

impl Patch {
    fn read(json: &Json) -> Option<Self> {
        let written: Written = serde_json::from_value(json.clone()).ok()?;
        let operation = match written.patch.operation.as_str() {
            "MERGE" => Operation::Merge,
            "ADD" => Operation::Add,
            "REMOVE" => Operation::Remove,
            "INSERT_BEFORE" => Operation::InsertBefore,
            "INSERT_AFTER" => Operation::InsertAfter,
            "INSERT_FIRST" => Operation::InsertFirst,
            "REPLACE" => Operation::Replace,
            _ => return None,
        };
        let context = written.r#match.get("context").and_then(Json::as_str).unwrap_or("ANY");
        Some(Self {
            apply_to: written.apply_to,
            context: context.to_owned(),
            condition: written.r#match,
            operation,
            value: written.patch.value,
        })
    }

    fn is_for(&self, side: Side) -> bool {
        match self.context.as_str() {
            "SIDECAR_INBOUND" => side == Side::Inbound,
            "SIDECAR_OUTBOUND" => side == Side::Outbound,
            "GATEWAY" => side == Side::Gateway,
            "ANY" => true,
            _ => false,
        }
    }

    /// A part of the condition.
    fn at(&self, path: &str) -> Option<&Json> {
        self.condition.pointer(path).filter(|v| !v.is_null())
    }

    /// A text of the condition; none if it is empty.
    fn text(&self, path: &str) -> Option<&str> {
        self.at(path).and_then(Json::as_str).filter(|t| !t.is_empty())
    }

    /// A number of the condition; none if it is 0.
    fn number(&self, path: &str) -> Option<u32> {
        let value = self.at(path)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
        u32::try_from(number).ok().filter(|n| *n != 0)
    }
}

/// The patches of a class, by what they apply to, in the order in which they are applied.
#[derive(Debug, Default)]
struct Patches(BTreeMap<String, Vec<Patch>>);

impl Patches {
    fn of(&self, apply_to: &str, side: Side) -> impl Iterator<Item = &Patch> {
        let list = self.0.get(apply_to).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter(move |p| p.is_for(side))
    }

    fn touches(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| self.0.contains_key(*kind))
    }
}

/// Whether there are patches for a class.
pub(crate) fn concerns(cx: &mut Cx<'_>, class: &ProxyClass) -> bool {
    !of_class(cx, class).0.is_empty()
}

/// Resources as a class is sent them: patched.
pub(crate) fn apply(
    cx: &mut Cx<'_>,
    class: &ProxyClass,
    id: ClassId,
    resource_type: ResourceType,
    resources: Vec<Arc<Resource>>,
) -> Vec<Arc<Resource>> {
    let patches = of_class(cx, class);
    if patches.0.is_empty() {
        return resources;
    }
    match resource_type {
        ResourceType::Cluster if patches.touches(&["CLUSTER"]) => clusters::apply(&patches, class, resources),
        ResourceType::Listener if patches.touches(listeners::KINDS) => listeners::apply(&patches, class, resources),
        ResourceType::Route if patches.touches(routes::KINDS) => {
            let ports = routes::gateway_ports(cx, class, id);
            routes::apply(&patches, class, &ports, resources)
        }
        _ => resources,
    }
}

/// Extension configurations that patches add.
pub(crate) fn extensions(cx: &mut Cx<'_>, class: &ProxyClass) -> Vec<Arc<Resource>> {
    let patches = of_class(cx, class);
    let sides: &[Side] = if class.is_sidecar() {
        &[Side::Outbound, Side::Inbound]
    } else {
        &[Side::Gateway]
    };
    sides
        .iter()
        .flat_map(|side| patches.of("EXTENSION_CONFIG", *side))
        .filter(|patch| patch.operation == Operation::Add)
        .filter_map(|patch| xds::json::from_json::<TypedExtensionConfig>(&patch.value).ok())
        .map(|config| Arc::new(Resource::encode(config.name.as_str(), &config)))
        .collect()
}

/// Order of EnvoyFilters: by priority, the root namespace's first, older first.
fn in_order(cx: &mut Cx<'_>, namespace: &Arc<str>) -> Vec<Arc<Config<EnvoyFilter>>> {
    let root = cx.root();
    let mut list: Vec<_> = cx.of_namespace::<EnvoyFilter>(&root).cloned().collect();
    if *namespace != root {
        list.extend(cx.of_namespace(namespace).cloned());
    }
    list.sort_by(|a, b| {
        let local = |f: &Config<_>| f.meta.namespace != root;
        a.spec
            .priority
            .0
            .cmp(&b.spec.priority.0)
            .then_with(|| local(a).cmp(&local(b)))
            .then_with(|| a.meta.age_order(&b.meta))
    });
    list
}

fn selects(filter: &EnvoyFilter, labels: &BTreeMap<String, String>) -> bool {
    filter.target_refs.is_empty()
        && filter
            .workload_selector
            .as_ref()
            .is_none_or(|s| s.labels.iter().all(|(k, v)| labels.get(k) == Some(v)))
}

/// The proxy that a patch is for, if it says so.
fn wanted_proxy(patch: &Json) -> Option<&Json> {
    patch.pointer("/match/proxy").filter(|p| !p.is_null())
}

fn of_class(cx: &mut Cx<'_>, class: &ProxyClass) -> Patches {
    let mut patches = Patches::default();
    for filter in in_order(cx, &class.namespace) {
        if !selects(&filter.spec, &class.workload_labels) {
            continue;
        }
        for (index, written) in filter.spec.config_patches.iter().enumerate() {
            let id = (filter.meta.namespace.clone(), filter.meta.name.clone(), index);
            if wanted_proxy(&written.0).is_some() && !class.patches.contains(&id) {
                continue;
            }
            if let Some(patch) = Patch::read(&written.0) {
                patches.0.entry(patch.apply_to.clone()).or_default().push(patch);
            }
        }
    }
    patches
}

/// The patches of all EnvoyFilters that are for certain proxies, with what they ask of them; read once for all proxies.
#[derive(Debug, Default)]
pub(crate) struct ProxyPatches {
    by_namespace: BTreeMap<Arc<str>, Vec<(PatchId, Wanted)>>,
}

/// What a patch asks of a proxy.
#[derive(Debug)]
struct Wanted {
    /// Absent if any will do.
    version: Option<regex::Regex>,
    metadata: BTreeMap<String, Option<String>>,
}

impl Wanted {
    /// Nothing if no proxy is wanted, because no text fits the pattern.
    fn of(wanted: &Json) -> Option<Self> {
        let pattern = wanted.get("proxyVersion").and_then(Json::as_str).unwrap_or_default();
        let version = match pattern {
            "" => None,
            pattern => Some(regex::Regex::new(pattern).ok()?),
        };
        let fields = wanted.get("metadata").and_then(Json::as_object);
        let metadata = fields.into_iter().flatten();
        Some(Self {
            version,
            metadata: metadata
                .map(|(key, value)| (key.clone(), value.as_str().map(str::to_owned)))
                .collect(),
        })
    }
}

impl ProxyPatches {
    /// Those of the mesh as it is.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut patches = Self::default();
        for filter in snapshot.envoy_filters.iter() {
            let (namespace, name) = (&filter.meta.namespace, &filter.meta.name);
            for (index, written) in filter.spec.config_patches.iter().enumerate() {
                if let Some(wanted) = wanted_proxy(&written.0).and_then(Wanted::of) {
                    let id = (namespace.clone(), name.clone(), index);
                    let known = patches.by_namespace.entry(namespace.clone()).or_default();
                    known.push((id, wanted));
                }
            }
        }
        patches
    }

    /// Those that are for this proxy.
    pub(crate) fn of_proxy<'a>(
        &self,
        root: &str,
        namespace: &str,
        version: &str,
        metadata: &dyn Fn(&str) -> Option<&'a str>,
    ) -> BTreeSet<PatchId> {
        let near = [root, namespace].into_iter().filter_map(|n| self.by_namespace.get(n));
        near.flatten()
            .filter(|(_, wanted)| wanted.version.as_ref().is_none_or(|v| v.is_match(version)))
            .filter(|(_, wanted)| {
                wanted
                    .metadata
                    .iter()
                    .all(|(key, value)| metadata(key) == value.as_deref())
            })
            .map(|(id, _)| id.clone())
            .collect()
    }
}
