//! The EndpointSlices of one Service: at most 100 endpoints each, changed as little as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{Family, Ports, endpoints, to_api};
use crate::meta;
use crate::selector::Labels;

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
const LARGEST: usize = 100;

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A new slice; the server completes its name.
    Create(Box<EndpointSlice>),
    /// A slice with other content.
    Update(Box<EndpointSlice>),
    /// A slice that is no longer needed.
    Delete(Arc<EndpointSlice>),
}

/// Whether this controller made the slice.
pub(crate) fn is_ours(slice: &EndpointSlice) -> bool {
    slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY))
        .is_some_and(|by| by == MANAGER)
}

/// The Service that a slice belongs to.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME).map(String::as_str)
}

/// Whose slices they are.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The object that owns them.
    pub owner: OwnerReference,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Labels of the slices.
    pub labels: Labels,
}

impl Origin {
    fn of(service: &Service) -> Self {
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.insert(SERVICE_NAME.into(), meta::name(&service.metadata).into());
        labels.insert(MANAGED_BY.into(), MANAGER.into());
        if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
            labels.insert(HEADLESS.into(), String::new());
        }
        Origin {
            owner: meta::controller_ref(service),
            namespace: service.metadata.namespace.clone(),
            labels,
        }
    }
}

/// Endpoints of one family by their ports.
pub(crate) type Groups = BTreeMap<Ports, Vec<Endpoint>>;

/// What is to be written so that the slices tell of exactly `pods`, those that the Service selects.
#[must_use]
pub fn decide(service: &Service, pods: &[&Pod], existing: &[Arc<EndpointSlice>]) -> Vec<Action> {
    if meta::is_terminating(&service.metadata) {
        return Vec::new(); // the garbage collector takes the slices along
    }
    let families = Family::of(service).into_iter().map(|family| {
        let mut groups = endpoints(service, pods, family);
        if groups.is_empty() {
            groups.insert(Ports::new(), Vec::new()); // one empty slice says "nobody"
        }
        (family, groups)
    });
    settle(&Origin::of(service), families.collect(), existing)
}

/// What is to be written so that the slices of an origin tell of exactly these endpoints.
pub(crate) fn settle(origin: &Origin, families: Vec<(Family, Groups)>, existing: &[Arc<EndpointSlice>]) -> Vec<Action> {
    let mut left: Vec<_> = existing.to_vec();
    let mut actions = Vec::new();
    for (family, groups) in families {
        for (ports, members) in groups {
            place(origin, family, &ports, members, &mut left, &mut actions);
        }
    }
    actions.extend(left.into_iter().map(Action::Delete));
    actions
}

/// Puts the endpoints of one family and set of ports into slices, keeping each in the slice where it already is.
fn place(
    origin: &Origin,
    family: Family,
    ports: &Ports,
    members: Vec<Endpoint>,
    left: &mut Vec<Arc<EndpointSlice>>,
    actions: &mut Vec<Action>,
) {
    let same = |slice: &Arc<EndpointSlice>| {
        let slice_ports = slice.ports.as_deref().unwrap_or_default();
        slice.address_type == family.name()
            && (slice_ports == to_api(ports) || (slice.endpoints.is_empty() && slice_ports.is_empty()))
    };
    let mut reused: Vec<Arc<EndpointSlice>> = Vec::new();
    left.retain(|slice| {
        let take = same(slice);
        if take {
            reused.push(slice.clone());
        }
        !take
    });
    let mut waiting: BTreeMap<String, Endpoint> =
        members.into_iter().map(|member| (identity(&member), member)).collect();
    let mut contents: Vec<Vec<Endpoint>> = Vec::new();
    for slice in &reused {
        let kept = slice
            .endpoints
            .iter()
            .filter_map(|endpoint| waiting.remove(&identity(endpoint)));
        contents.push(kept.take(LARGEST).collect());
    }
    let mut waiting = waiting.into_values().peekable();
    for content in &mut contents {
        while content.len() < LARGEST && waiting.peek().is_some() {
            content.extend(waiting.next());
        }
    }
    while waiting.peek().is_some() {
        contents.push(waiting.by_ref().take(LARGEST).collect());
    }
    if contents.is_empty() {
        contents.push(Vec::new());
    }
    // Empty slices go, but for one when there is nothing else to say.
    let any = contents.iter().any(|content| !content.is_empty());
    let mut keep_empty = !any;
    for (at, content) in contents.into_iter().enumerate() {
        let before = reused.get(at);
        let needed = !content.is_empty() || std::mem::take(&mut keep_empty);
        match before {
            Some(before) if !needed => actions.push(Action::Delete(before.clone())),
            Some(before) => actions.extend(updated(origin, before, ports, content)),
            None => actions.push(Action::Create(Box::new(made(origin, family, ports, content)))),
        }
    }
}

fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint
        .target_ref
        .as_ref()
        .and_then(|target| target.uid.as_deref())
        .unwrap_or_default();
    format!("{uid} {}", endpoint.addresses.join(" "))
}

fn made(origin: &Origin, family: Family, ports: &Ports, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", origin.owner.name)),
            namespace: origin.namespace.clone(),
            labels: Some(origin.labels.clone()),
            owner_references: Some(vec![origin.owner.clone()]),
            ..Default::default()
        },
        address_type: family.name().into(),
        endpoints,
        ports: Some(to_api(ports)),
    }
}

fn updated(origin: &Origin, before: &EndpointSlice, ports: &Ports, endpoints: Vec<Endpoint>) -> Option<Action> {
    let mut slice = before.clone();
    slice.metadata.labels = Some(origin.labels.clone());
    slice.endpoints = endpoints;
    slice.ports = Some(to_api(ports));
    let same_ports = slice.ports.as_deref().unwrap_or_default() == before.ports.as_deref().unwrap_or_default();
    let same = same_ports && slice.endpoints == before.endpoints && slice.metadata == before.metadata;
    (!same).then(|| Action::Update(Box::new(slice)))
}
