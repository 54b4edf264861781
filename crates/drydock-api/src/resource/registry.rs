//! The table of resources, changed at run time by custom resource definitions.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::Strategy;

/// A subresource as discovery shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubresourceInfo {
    /// `status`, `scale`, `log`, ….
    pub name: String,
    /// Kind of its body.
    pub kind: String,
    /// Group of its body if it differs from the resource's, else empty.
    pub group: String,
    /// Version of its body if it differs, else empty.
    pub version: String,
    /// Verbs.
    pub verbs: Vec<String>,
}

/// One resource in one version.
#[derive(Debug, Clone)]
pub struct ResourceInfo {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Kind of the list, normally `{kind}List`.
    pub list_kind: String,
    /// Plural name, the path segment.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories (`all`, …).
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Verbs; a resource with only `create` is virtual ([`crate::hooks::VirtualResource`]).
    pub verbs: Vec<String>,
    /// Subresources.
    pub subresources: Vec<SubresourceInfo>,
    /// Key prefix in the store, the same for all versions: `group/plural` of the stored form.
    pub storage: String,
    /// Version objects are stored in.
    pub storage_version: String,
    /// What the kind demands.
    pub strategy: Arc<dyn Strategy>,
    /// Whether it comes from a custom resource definition.
    pub custom: bool,
    /// Warning sent with each request (deprecated versions).
    pub warning: Option<String>,
}

impl ResourceInfo {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// Whether the resource has `verb`.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    /// The subresource called `name`.
    pub fn subresource(&self, name: &str) -> Option<&SubresourceInfo> {
        self.subresources.iter().find(|one| one.name == name)
    }

    /// Store key of an object; `namespace` is ignored for cluster-scoped resources.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        format!("{}{name}", self.prefix(namespace))
    }

    /// Store key prefix of a namespace's objects; of all objects if `namespace` is empty.
    pub fn prefix(&self, namespace: &str) -> String {
        if self.namespaced && !namespace.is_empty() {
            format!("{}/{namespace}/", self.storage)
        } else {
            format!("{}/", self.storage)
        }
    }
}

/// `version` alone for the core group, else `group/version`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// All resources by group, version and plural. Cheap to read from any thread.
#[derive(Debug, Default)]
pub struct Registry {
    resources: RwLock<BTreeMap<(String, String, String), Arc<ResourceInfo>>>,
}

impl Registry {
    /// The resource of a path.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<ResourceInfo>> {
        self.read()
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
            .cloned()
    }

    /// Any version of a resource, the stored version if it is served.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<Arc<ResourceInfo>> {
        let resources = self.read();
        let mut found = resources
            .values()
            .filter(|one| one.group == group && one.plural == plural);
        let first = found.next()?;
        let stored = std::iter::once(first)
            .chain(found)
            .find(|one| one.version == one.storage_version);
        Some(stored.unwrap_or(first).clone())
    }

    /// The resource of a kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<ResourceInfo>> {
        self.read()
            .values()
            .find(|one| one.group == group && one.version == version && one.kind == kind)
            .cloned()
    }

    /// Whether the group has built-in resources.
    pub fn is_builtin_group(&self, group: &str) -> bool {
        self.read().values().any(|one| one.group == group && !one.custom)
    }

    /// All resources, ordered by group, version, plural.
    pub fn all(&self) -> Vec<Arc<ResourceInfo>> {
        self.read().values().cloned().collect()
    }

    /// Adds or replaces a resource.
    pub fn put(&self, resource: ResourceInfo) {
        let key = (
            resource.group.clone(),
            resource.version.clone(),
            resource.plural.clone(),
        );
        self.write().insert(key, Arc::new(resource));
    }

    /// Removes every version of a resource that `keep` does not list.
    pub fn retain_versions(&self, group: &str, plural: &str, keep: &[&str]) {
        self.write()
            .retain(|(g, v, p), _| g != group || p != plural || keep.contains(&v.as_str()));
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<(String, String, String), Arc<ResourceInfo>>> {
        self.resources.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<(String, String, String), Arc<ResourceInfo>>> {
        self.resources
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
