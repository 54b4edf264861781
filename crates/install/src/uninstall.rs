//! Uninstalling: what goes, what stays and why, and who is still using it (revisions.md §8; operators.md §1, §2).

mod lost;
mod removal;
mod validator;

pub use lost::disown;
pub use removal::{Removed, Stop, execute};
pub use validator::Stays;

use std::collections::BTreeSet;

use api::names::{DEFAULT_REVISION, label};

use crate::api_server::{ApiServer, RequestError, kind};
use crate::assets::Assets;
use crate::component::{Kind, Rendering, render};
use crate::input::{Input, resolve};
use crate::object::{Id, Object};
use crate::owner;
use crate::prune::kinds;
use crate::record::{self, Memory, Others};
use crate::retag::ChangeError;
use crate::served;
use crate::tag::{self, Inventory, leads_to};

/// Why an uninstallation ended early.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// The default revision could not be moved away first: without it nobody would validate and inject.
    #[error("nothing was removed, because the default revision cannot be moved first: {0}")]
    DefaultStays(#[from] ChangeError),
    /// The API server.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// What is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One revision, as labels spell it.
    Revision(String),
    /// Everything, CRDs included.
    Purge,
}

/// What an uninstallation does. Nothing has happened yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The revision that goes; `None` if everything does.
    pub revision: Option<String>,
    /// What goes, in this order, as it was read: what has changed since then stays.
    pub remove: Vec<Object>,
    /// Tags that point at the revision and go with it: their webhooks would fail closed.
    pub tags: Vec<String>,
    /// The revision that the tag `default` is moved to, because it is the only one that remains.
    pub default_moves_to: Option<String>,
    /// What has to follow for releases of Helm that made a tag which goes or moves.
    pub bereft: Vec<String>,
    /// Namespaces whose pods are injected by what goes, by label or through a tag that goes.
    pub namespaces: Vec<String>,
    /// Gateways that run on the revision and stay.
    pub gateways: Vec<Gateway>,
    /// Revisions that remain, but for those that are gone themselves and left their injector.
    pub others: Vec<String>,
    /// Releases of Helm that the control plane belongs to. Only Helm removes them, so nothing is removed here; but a purge
    /// does.
    pub releases: Vec<String>,
    /// What becomes of a validator of Helm's that leads to the revision.
    pub validator: Option<Stays>,
    /// Field managers that applied the control plane, if no installer did (`helm template | kubectl apply`); else empty.
    pub applied_by: Vec<String>,
}

/// A gateway that stays, because another revision has it, or may have it, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its Deployment.
    pub id: Id,
    /// The revision that it may go to.
    pub to: String,
    /// Was that installed with it?
    pub had: bool,
}

impl Plan {
    /// Which objects go.
    pub fn ids(&self) -> Vec<Id> {
        self.remove.iter().map(Object::id).collect()
    }

    /// The revision that gateways may go to: the default one if it can serve, else any that can.
    pub fn successor(&self, inventory: &Inventory) -> Option<&str> {
        self.preferred(&self.others, inventory)
    }

    fn preferred<'a>(&self, among: &'a [String], inventory: &Inventory) -> Option<&'a str> {
        let default = self.default_moves_to.as_deref().or(inventory.target(DEFAULT_REVISION));
        served::preferred(among, default, inventory)
    }

    /// A gateway that stays, and where it may go: rather to a revision that was installed with it.
    fn staying(&self, deployment: &Object, records: &Others, inventory: &Inventory) -> Option<Gateway> {
        let gateway = record::Gateway::of(deployment)?;
        let had = records.with(&[Memory::Had], &gateway);
        let may = records.with(&[Memory::Off, Memory::Unrecorded], &gateway);
        let among = if had.is_empty() { &may } else { &had };
        Some(Gateway {
            id: deployment.id(),
            to: self.preferred(among, inventory)?.to_owned(),
            had: !had.is_empty(),
        })
    }
}

/// A gateway whose name another revision knows, or may know, is as much that one's, although it may be switched off there:
/// a canary of it may be served by the same Service.
const KEEP: [Memory; 3] = [Memory::Had, Memory::Off, Memory::Unrecorded];

/// Decides from what the cluster holds. `owned` are the objects that carry an installer's component label.
pub fn plan(scope: &Scope, namespace: &str, owned: &[Object], inventory: &Inventory) -> Plan {
    let Scope::Revision(revision) = scope else {
        return purge(owned, inventory);
    };
    let mut plan = Plan {
        revision: Some(revision.clone()),
        // Nothing is moved to one of which only the webhooks are left.
        others: served::others(revision, namespace, inventory),
        ..Plan::default()
    };
    let records = Others::among(&plan.others, namespace, owned);
    let mut staying = Vec::new();
    let is_ours = |object: &&Object| {
        object.label(label::REVISION) == revision && object.label(label::OWNING_RESOURCE_NAMESPACE) == namespace
    };
    for object in owned.iter().filter(is_ours) {
        let component = object.label(label::OPERATOR_COMPONENT);
        if component == Kind::Base.label() || !object.label(label::TAG).is_empty() {
            continue;
        }
        // Upgraded in place: the other revision's as much as this one's.
        if record::Gateway::of(object).is_some_and(|gateway| !records.with(&KEEP, &gateway).is_empty()) {
            if object.kind() == "Deployment" {
                staying.push(object);
            }
            continue;
        }
        plan.remove.push(object.clone());
    }
    // Istiod itself writes an object that goes with its revision: only the Deployment tells who installed that.
    let is_istiod = |object: &Object| {
        object.kind() == "Deployment" && object.label(label::OPERATOR_COMPONENT) == Kind::Pilot.label()
    };
    if !owned.iter().filter(is_ours).any(is_istiod) {
        plan.releases = releases(revision, namespace, owned);
        if !plan.releases.is_empty() {
            plan.remove.clear();
            return plan;
        }
        let applied = applied(revision, namespace, owned);
        plan.remove.extend(applied.iter().map(|object| (*object).clone()));
        plan.applied_by = managers(&applied);
    }
    let tags: BTreeSet<&str> = inventory
        .webhooks
        .iter()
        .chain(&inventory.services)
        .filter(|object| object.label(label::REVISION) == revision)
        .map(|object| object.label(label::TAG))
        .filter(|tag| !tag.is_empty())
        .collect();
    let ready: Vec<&String> = plan.others.iter().filter(|other| inventory.is_ready(other)).collect();
    if let (true, [only]) = (tags.contains(DEFAULT_REVISION), ready.as_slice()) {
        plan.default_moves_to = Some((*only).clone());
    }
    let gateways = staying
        .into_iter()
        .filter_map(|deployment| plan.staying(deployment, &records, inventory));
    plan.gateways = gateways.collect();
    plan.tags = tags
        .iter()
        .filter(|tag| **tag != DEFAULT_REVISION || plan.default_moves_to.is_none())
        .map(|tag| (*tag).to_owned())
        .collect();
    plan.bereft = tag::bereft(inventory, &tags);
    plan.namespaces = users(revision, &tags, inventory);
    for tag in &plan.tags {
        plan.remove.extend(tag_objects(tag, revision, inventory));
    }
    in_order(&mut plan.remove);
    plan.validator = validator::that_stays(revision, namespace, &plan, inventory);
    plan
}

/// A control plane that nobody marked as his own: manifests of the charts that were applied as they are. Most of its
/// objects say which revision they are of; the others are known by their names.
fn applied<'a>(revision: &str, namespace: &str, owned: &'a [Object]) -> Vec<&'a Object> {
    let is_here = |object: &Object| match object.kind() {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => leads_to(object, namespace),
        _ if object.namespace().is_empty() => object.name().ends_with(&format!("-{namespace}")),
        _ => object.namespace() == namespace,
    };
    let is_unmarked = |object: &&Object| {
        is_here(object)
            && object.label(label::APP_PART_OF) == "istio"
            && object.label(label::OWNING_RESOURCE_NAMESPACE).is_empty()
            && object.label(label::TAG).is_empty()
            && owner::release(object).is_none()
    };
    let unmarked: Vec<&Object> = owned.iter().filter(is_unmarked).collect();
    let is_silent = |object: &&Object| object.label(label::REVISION).is_empty();
    let parts = if unmarked.iter().any(is_silent) {
        parts(revision, namespace)
    } else {
        BTreeSet::new()
    };
    let is_part = |object: &&Object| {
        if is_silent(object) {
            return parts.contains(&(object.kind().to_owned(), object.name().to_owned()));
        }
        let component = object.label(label::OPERATOR_COMPONENT);
        object.label(label::REVISION) == revision && (component.is_empty() || component == Kind::Pilot.label())
    };
    unmarked.into_iter().filter(is_part).collect()
}

/// Kinds and names of what the charts render for a control plane.
fn parts(revision: &str, namespace: &str) -> BTreeSet<(String, String)> {
    let assets = Assets::embedded();
    let input = Input {
        settings: vec![
            "profile=minimal".to_owned(),
            format!("values.global.istioNamespace={namespace}"),
        ],
        revision: Some(revision.to_owned()),
        ..Input::default()
    };
    let Ok(operator) = resolve(&input, &assets) else {
        return BTreeSet::new();
    };
    let components = render(&operator, &assets, &Rendering::default()).unwrap_or_default();
    let control_plane = components.iter().filter(|component| component.kind == Kind::Pilot);
    let objects = control_plane.flat_map(|component| &component.objects);
    objects
        .map(|object| (object.kind().to_owned(), object.name().to_owned()))
        .collect()
}

/// Who applied objects, as their managed fields say; never empty if there are any.
fn managers(objects: &[&Object]) -> Vec<String> {
    let entries = objects
        .iter()
        .filter_map(|object| object.0.pointer("/metadata/managedFields")?.as_array())
        .flatten();
    let names: BTreeSet<&str> = entries
        .filter(|entry| entry["subresource"].as_str().unwrap_or_default().is_empty())
        .filter_map(|entry| entry["manager"].as_str())
        // What istiod keeps in its own objects.
        .filter(|name| !name.starts_with("istiod"))
        .collect();
    match (objects.is_empty(), names.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => vec!["somebody".to_owned()],
        (false, false) => names.into_iter().map(str::to_owned).collect(),
    }
}

/// The releases of Helm whose control plane a revision is, as `name -n namespace`.
fn releases(revision: &str, namespace: &str, owned: &[Object]) -> Vec<String> {
    // Without its Deployment, the release still has the injector.
    let is_its = |object: &&Object| {
        let is_here = match object.kind() {
            "Deployment" => object.namespace() == namespace,
            "MutatingWebhookConfiguration" => {
                object.label(label::TAG).is_empty() && object.called_namespace() == namespace
            }
            _ => false,
        };
        is_here
            && object.label(label::REVISION) == revision
            && object.label(label::OPERATOR_COMPONENT) == Kind::Pilot.label()
    };
    let named = owned.iter().filter(is_its).filter_map(owner::release);
    named.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Deployed gateways of the Gateway API that ask for a revision, by its name or by one of these tags.
pub fn deployed(revision: &str, tags: &[String], gateways: &[Object]) -> Vec<Id> {
    let asks = |gateway: &&Object| {
        let wanted = gateway.label(label::REVISION);
        wanted == revision || tags.iter().any(|tag| tag == wanted)
    };
    gateways.iter().filter(asks).map(Object::id).collect()
}

fn purge(owned: &[Object], inventory: &Inventory) -> Plan {
    let mut remove = owned.to_vec();
    let all = inventory
        .webhooks
        .iter()
        .chain(&inventory.services)
        .chain(&inventory.validators);
    remove.extend(all.filter(|object| !object.label(label::TAG).is_empty()).cloned());
    in_order(&mut remove);
    let releases: BTreeSet<String> = remove.iter().filter_map(owner::release).collect();
    let labels = [label::REVISION, label::TAG];
    let names = inventory
        .webhooks
        .iter()
        .flat_map(|webhook| labels.map(|key| webhook.label(key)));
    let mut namespaces: BTreeSet<&str> = names
        .filter(|name| !name.is_empty())
        .flat_map(|name| inventory.namespaces_of(name))
        .collect();
    if !inventory.webhooks.is_empty() {
        namespaces.extend(inventory.injected_namespaces());
    }
    Plan {
        releases: releases.into_iter().collect(),
        namespaces: namespaces.into_iter().map(str::to_owned).collect(),
        remove,
        ..Plan::default()
    }
}

fn users(revision: &str, tags: &BTreeSet<&str>, inventory: &Inventory) -> Vec<String> {
    let mut names: BTreeSet<&str> = inventory.namespaces_of(revision).into_iter().collect();
    for tag in tags {
        names.extend(inventory.namespaces_of(tag));
    }
    if tags.contains(DEFAULT_REVISION) || (revision == DEFAULT_REVISION && inventory.target(DEFAULT_REVISION).is_none())
    {
        names.extend(inventory.injected_namespaces());
    }
    names.into_iter().map(str::to_owned).collect()
}

fn tag_objects(tag: &str, revision: &str, inventory: &Inventory) -> Vec<Object> {
    let all = inventory
        .webhooks
        .iter()
        .chain(&inventory.services)
        .chain(&inventory.validators);
    all.filter(|o| o.label(label::TAG) == tag && o.label(label::REVISION) == revision)
        .cloned()
        .collect()
}

/// Webhooks first, CRDs last, each object once.
fn in_order(objects: &mut Vec<Object>) {
    let order = kinds();
    let rank = |id: &Id| {
        order
            .iter()
            .position(|kind| kind.kind == id.kind)
            .unwrap_or(order.len())
    };
    objects.sort_by_cached_key(|object| {
        let id = object.id();
        (rank(&id), id)
    });
    objects.dedup_by_key(|object| object.id());
}

/// Label of everything that a chart renders.
const RENDERED: &str = "app.kubernetes.io/part-of=istio";

/// Reads the objects of all installations, and what charts rendered that no installer marked; with `purge` of the latter
/// only what is outside of namespaces (a validator without a control plane would refuse what it validates for ever), and
/// what no revision owns.
pub async fn owned(server: &ApiServer, purge: bool) -> Result<Vec<Object>, RequestError> {
    let mut found = Vec::new();
    let mut wanted = kinds();
    if purge {
        wanted.push(kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
    }
    for kind in wanted {
        let objects = server.list(&kind, label::OPERATOR_COMPONENT).await?;
        found.extend(objects.into_iter().filter(|object| !object.is_dependent()));
        let unmarked = format!("{RENDERED},!{}", label::OPERATOR_COMPONENT);
        let rendered = server.list(&kind, &unmarked).await?;
        let is_wanted = |object: &Object| !object.is_dependent() && (!purge || object.namespace().is_empty());
        found.extend(rendered.into_iter().filter(is_wanted));
    }
    Ok(found)
}

/// Gateways of the Gateway API; none where that is not installed.
pub async fn gateways(server: &ApiServer) -> Result<Vec<Object>, RequestError> {
    server
        .list(&kind("gateway.networking.k8s.io", "v1", "Gateway"), "")
        .await
}

#[cfg(test)]
#[path = "uninstall_tests.rs"]
mod tests;
