//! Which service a host means, from where one stands.

use std::collections::BTreeMap;

use revision::selector::Labels;
use serde_json::Value;

use super::fields::{list, map, text, texts};
use crate::objects::{Objects, name, namespace};

/// Stands for all namespaces.
pub(super) const ALL: &str = "*";
/// Suffix of services of the cluster.
const CLUSTER: &str = "svc.cluster.local";

/// A service as clients see it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) ports: Vec<u64>,
    /// Labels of its workloads, as far as it says so itself.
    pub(super) workloads: Labels,
}

/// Services by who sees them and by full host.
#[derive(Debug, Default)]
pub(super) struct Services {
    by_scope: BTreeMap<(String, String), Service>,
}

/// The host, with namespace and suffix if it is a short name.
pub(super) fn full(host: &str, namespace: &str) -> String {
    if host.starts_with('*') || host.contains('.') {
        host.to_owned()
    } else {
        format!("{host}.{namespace}.{CLUSTER}")
    }
}

/// Name and namespace of the service that a host means.
pub(super) fn service<'a>(host: &'a str, of: &'a str) -> (&'a str, &'a str) {
    host.strip_suffix(CLUSTER)
        .and_then(|rest| rest.strip_suffix('.'))
        .and_then(|rest| rest.rsplit_once('.'))
        .unwrap_or((host, of))
}

/// Namespaces that see something; `.` is its own.
pub(super) fn scopes<'a>(list: &[&'a str], of: &'a str) -> Vec<&'a str> {
    if list.is_empty() || list.contains(&ALL) {
        return vec![ALL];
    }
    let mut scopes: Vec<&str> = list
        .iter()
        .map(|scope| if *scope == "." { of } else { *scope })
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

impl Services {
    pub(super) fn of(objects: &Objects) -> Self {
        let mut services = Self::default();
        for entry in objects.of_kind("ServiceEntry") {
            let of = namespace(entry);
            for scope in scopes(&texts(entry, "/spec/exportTo"), of) {
                for host in texts(entry, "/spec/hosts") {
                    let ports = list(entry, "/spec/ports").filter_map(|port| port["number"].as_u64());
                    let service = Service {
                        ports: ports.collect(),
                        workloads: map(&entry["spec"]["workloadSelector"]["labels"]),
                    };
                    services.by_scope.insert((scope.to_owned(), full(host, of)), service);
                }
            }
        }
        for object in objects.of_kind("Service") {
            let of = namespace(object);
            let exported: Vec<&str> = text(object, "/metadata/annotations/networking.istio.io~1exportTo")
                .split(',')
                .map(str::trim)
                .filter(|scope| !scope.is_empty())
                .collect();
            for scope in scopes(&exported, of) {
                let ports = list(object, "/spec/ports").filter_map(|port| port["port"].as_u64());
                let service = Service {
                    ports: ports.collect(),
                    workloads: Labels::new(),
                };
                services
                    .by_scope
                    .insert((scope.to_owned(), full(name(object), of)), service);
            }
        }
        services
    }

    /// The service that a host means to who is in a namespace and exports to others.
    pub(super) fn find(&self, host: &str, of: &str, export_to: &[&str]) -> Option<&Service> {
        let get = |scope: &str| self.by_scope.get(&(scope.to_owned(), full(host, of)));
        let own = [of];
        let scopes: Vec<&str> = if export_to.is_empty() {
            own.to_vec()
        } else {
            export_to
                .iter()
                .map(|scope| if *scope == "." { of } else { *scope })
                .collect()
        };
        get(ALL)
            .or_else(|| scopes.iter().find_map(|scope| get(scope)))
            .or_else(|| self.wildcard(host, of))
    }

    fn wildcard(&self, host: &str, of: &str) -> Option<&Service> {
        let host = host.trim_start_matches('*');
        self.by_scope
            .iter()
            .filter(|((scope, _), _)| scope == ALL || scope == of)
            .find(|((_, pattern), _)| pattern.strip_prefix('*').is_some_and(|suffix| host.ends_with(suffix)))
            .map(|(_, service)| service)
    }
}

/// Where something leads.
#[derive(Debug)]
pub(super) struct Destination<'a> {
    /// Whether copies of requests go there.
    pub(super) mirrors: bool,
    pub(super) host: &'a str,
    pub(super) subset: &'a str,
    pub(super) port: Option<u64>,
}

/// All destinations of a VirtualService: of routes, then of mirrors.
pub(super) fn destinations(service: &Value) -> Vec<Destination<'_>> {
    let mut found = Vec::new();
    for kind in ["/spec/tcp", "/spec/tls", "/spec/http"] {
        for route in list(service, kind).flat_map(|rule| list(rule, "/route")) {
            found.push(destination(&route["destination"], false));
        }
    }
    for rule in list(service, "/spec/http") {
        if let Some(mirror) = rule.get("mirror") {
            found.push(destination(mirror, true));
        }
        found.extend(list(rule, "/mirrors").map(|mirror| destination(&mirror["destination"], true)));
    }
    found
}

fn destination(value: &Value, mirrors: bool) -> Destination<'_> {
    Destination {
        mirrors,
        host: text(value, "/host"),
        subset: text(value, "/subset"),
        port: value
            .get("port")
            .map(|port| port["number"].as_u64().unwrap_or_default()),
    }
}
