//! Sidecar objects: which one is for a proxy, and what its host patterns import.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::networking::Sidecar;
use mesh::{Config, Shelf};

use crate::host;

/// Namespace and name of a Sidecar.
pub(crate) type SidecarName = (Arc<str>, Arc<str>);

/// The Sidecar for a workload: the oldest that selects it, else the oldest of its namespace without a selector, else
/// that of the root namespace.
pub(crate) fn of_workload<'a>(
    sidecars: &'a Shelf<Config<Sidecar>>,
    root: &str,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Option<&'a Arc<Config<Sidecar>>> {
    let oldest = |namespace: &str, wanted: &dyn Fn(&Sidecar) -> bool| {
        sidecars
            .in_namespace(namespace)
            .filter(|s| wanted(&s.spec))
            .min_by(|a, b| a.meta.age_order(&b.meta))
    };
    let selects = |sidecar: &Sidecar| {
        sidecar
            .workload_selector
            .as_ref()
            .is_some_and(|s| s.labels.iter().all(|(k, v)| labels.get(k) == Some(v)))
    };
    let general = |sidecar: &Sidecar| sidecar.workload_selector.is_none();
    oldest(namespace, &selects)
        .or_else(|| oldest(namespace, &general))
        .or_else(|| oldest(root, &general))
}

/// The patterns `namespace/host` of an egress listener, read.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    /// Namespace; all if absent.
    namespace: Option<String>,
    host: String,
    excludes: bool,
}

impl Imports {
    /// Reads patterns; `.` is the own namespace, `~` excludes.
    pub(crate) fn parse(hosts: &[String], own: &str) -> Self {
        let pattern = |text: &String| {
            let (namespace, host) = text.split_once('/')?;
            let (namespace, excludes) = match namespace.strip_prefix('~') {
                Some("") => ("*", true),
                Some(rest) => (rest, true),
                None => (namespace, false),
            };
            let namespace = match namespace {
                "*" => None,
                "." => Some(own.to_owned()),
                other => Some(other.to_owned()),
            };
            Some(Pattern {
                namespace,
                host: host.to_owned(),
                excludes,
            })
        };
        Self {
            patterns: hosts.iter().filter_map(pattern).collect(),
        }
    }

    fn of_namespace<'a>(&'a self, namespace: &'a str, excludes: bool) -> impl Iterator<Item = &'a str> {
        self.patterns
            .iter()
            .filter(move |p| p.excludes == excludes && p.namespace.as_deref().is_none_or(|n| n == namespace))
            .map(|p| p.host.as_str())
    }

    fn excludes(&self, namespace: &str, name: &str) -> bool {
        self.of_namespace(namespace, true).any(|p| host::covers(p, name))
    }

    /// Whether a service is imported.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> bool {
        !self.excludes(namespace, name) && self.of_namespace(namespace, false).any(|p| host::covers(p, name))
    }

    /// Whether a VirtualService of these hosts is imported: one host in common is enough.
    pub(crate) fn virtual_service(&self, namespace: &str, hosts: &[String]) -> bool {
        hosts.iter().any(|name| {
            !self.excludes(namespace, name) && self.of_namespace(namespace, false).any(|p| host::overlap(p, name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(hosts: &[&str]) -> Imports {
        Imports::parse(&hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>(), "shop")
    }

    #[test]
    fn patterns_import_by_namespace_and_host() {
        let some = imports(&["./*", "billing/a.example.com", "*/*.example.org"]);
        assert!(some.service("shop", "any.host"));
        assert!(some.service("billing", "a.example.com"));
        assert!(!some.service("billing", "b.example.com"));
        assert!(some.service("ops", "x.example.org"));
        assert!(!some.service("ops", "x.example.com"));
    }

    #[test]
    fn a_tilde_excludes() {
        assert!(!imports(&["~/*"]).service("shop", "a.b"));
        let but = imports(&["*/*", "~billing/secret.example.com"]);
        assert!(!but.service("billing", "secret.example.com"));
        assert!(but.service("ops", "secret.example.com"));
    }

    #[test]
    fn virtual_services_are_imported_by_any_common_host() {
        let some = imports(&["billing/split.example.com"]);
        assert!(some.virtual_service("billing", &["x.com".to_owned(), "*.example.com".to_owned()]));
        assert!(!some.virtual_service("ops", &["split.example.com".to_owned()]));
    }
}
