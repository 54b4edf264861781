//! What proxies of a namespace see: services and VirtualServices.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::networking::VirtualService;
use mesh::{Config, Input, Kind, Registry, Resolution, Service, Visibility};

use crate::graph::Cx;
use crate::route::virtual_services;

/// What a namespace sees.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Scope {
    /// Services, older first, one per host.
    pub(crate) services: Vec<Arc<Service>>,
    by_host: BTreeMap<Arc<str>, usize>,
    /// Other names of services, by the service's host.
    pub(crate) aliases: BTreeMap<Arc<str>, Vec<Arc<Service>>>,
    /// VirtualServices with full host names and delegates resolved, older first.
    pub(crate) virtual_services: Vec<Arc<Config<VirtualService>>>,
}

impl Scope {
    /// The service of that host.
    pub(crate) fn service(&self, host: &str) -> Option<&Arc<Service>> {
        self.by_host.get(host).and_then(|index| self.services.get(*index))
    }
}

pub(crate) fn of_namespace(cx: &mut Cx<'_>, namespace: &Arc<str>) -> Scope {
    let snapshot = cx.read(Input::Services);
    let mut chosen: BTreeMap<Arc<str>, Arc<Service>> = BTreeMap::new();
    let mut aliases: BTreeMap<Arc<str>, Vec<Arc<Service>>> = BTreeMap::new();
    for service in snapshot.services() {
        if !service.visibility.includes(namespace) {
            continue;
        }
        if service.resolution == Resolution::Alias {
            if let Some(target) = &service.alias_of {
                aliases.entry(target.clone()).or_default().push(service.clone());
            }
            continue;
        }
        match chosen.get(&service.key.host) {
            Some(other) if !wins(service, other, namespace) => {}
            _ => drop(chosen.insert(service.key.host.clone(), service.clone())),
        }
    }
    let mut services: Vec<Arc<Service>> = chosen.into_values().collect();
    services.sort_by(|a, b| a.age_order(b));
    let by_host = services
        .iter()
        .enumerate()
        .map(|(index, s)| (s.key.host.clone(), index))
        .collect();
    let default_export = cx.read(Input::Mesh).mesh.default_virtual_service_export_to.clone();
    let all = cx.read(Input::Kind(Kind::VirtualService));
    let domain = cx.domain();
    let mut visible: Vec<_> = virtual_services::resolved(all, domain)
        .into_iter()
        .filter(|vs| Visibility::parse(&vs.spec.export_to, &default_export, &vs.meta.namespace).includes(namespace))
        .collect();
    visible.sort_by(|a, b| a.meta.age_order(&b.meta));
    Scope {
        services,
        by_host,
        aliases,
        virtual_services: visible,
    }
}

/// Of two services with one host: the one of the own namespace, else Kubernetes', else the older.
fn wins(new: &Service, old: &Service, namespace: &str) -> bool {
    let rank = |s: &Service| (*s.key.namespace == *namespace, s.registry == Registry::Kubernetes);
    rank(new) > rank(old)
}
