//! Revision tags: the objects a tag consists of, and who has which (revisions.md §3). Pure.

mod helm;
mod inventory;
mod list;

pub use helm::{OfHelm, bereft};
pub use inventory::Inventory;
pub use list::{Row, list};

use std::collections::{BTreeMap, BTreeSet};

use api::names::{label, object};
use revision::name::{Revision, Tag};
use revision::webhook::{DEACTIVATED_KEY, Options, Precedence, WEBHOOK_SUFFIX, of_tag};
use serde_json::{Map, Value, json};

use crate::object::Object;
use crate::owner;

/// Field manager of tag commands.
pub const FIELD_MANAGER: &str = "istio-ci";

/// Annotation of a tag's webhook configuration: the revision it pointed at before, for `tag undo`.
pub const PREVIOUS: &str = "trysail.dev/previous-revision";

/// Why a tag cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TagError {
    /// A name is no label.
    #[error(transparent)]
    Name(#[from] revision::name::NameError),
    /// A control plane is called like the tag.
    #[error("cannot create revision tag {0:?}: found existing control plane revision with same name")]
    IsRevision(String),
    /// There is no such revision.
    #[error(
        "cannot modify tag: cannot find MutatingWebhookConfiguration or Service with revision {0:?}; \
         `istioctl tag list` names those that exist"
    )]
    NoRevision(String),
    /// Its installation did not come as far as its injector.
    #[error(
        "cannot modify tag: revision {0:?} is not completely installed: it has no MutatingWebhookConfiguration, which \
         comes once its istiod is ready; the `istioctl install` that began it goes on from there: --revision {0}, with the \
         same profile, settings and files as then"
    )]
    Unfinished(String),
    /// More than one control plane claims the revision.
    #[error("cannot modify tag: found multiple canonical webhooks or services with revision {0:?}")]
    Several(String),
    /// The revision's webhook configuration is not one of an injector.
    #[error("could not find sidecar-injector webhook in canonical webhook {0:?}")]
    NoInjector(String),
    /// The tag is there and was not to be moved.
    #[error("revision tag {0:?} already exists, and --overwrite is false")]
    Exists(String),
    /// Its webhook configuration has another name than the one that was asked for.
    #[error(
        "cannot modify tag: the webhook configuration of tag {tag:?} is {live:?}, and beside {wanted:?} both would inject; \
         leave --webhook-name out, or remove the tag first: istioctl tag remove {tag}"
    )]
    OtherName {
        /// The tag.
        tag: String,
        /// The name that it has.
        live: String,
        /// The name that was asked for.
        wanted: String,
    },
    /// Another injector has the name of its webhook configuration.
    #[error(
        "cannot modify tag: MutatingWebhookConfiguration {0:?} is there and is not this tag's; choose another name for the \
         tag's with --webhook-name"
    )]
    NameTaken(String),
    /// The revision cannot serve.
    #[error(
        "cannot modify tag: revision {0:?} has no ready istiod pod, so no new pod would start; \
         wait for it, or pass --force to point the tag at it nevertheless"
    )]
    NotReady(String),
    /// The revision cannot serve, and `--force` was given to take over a tag of Helm's.
    #[error(
        "cannot modify tag: revision {0:?} has no ready istiod pod; a tag of Helm's is taken over only for one that serves: \
         wait for it"
    )]
    NotTaken(String),
    /// Helm made the tag, and would move it back.
    #[error("cannot modify tag: {0}")]
    Helm(OfHelm),
    /// The tag was never moved.
    #[error("cannot undo: tag {0:?} was not moved since it was made, or does not exist")]
    NotMoved(String),
    /// There is nothing to remove.
    #[error("cannot remove tag {0:?}: cannot find MutatingWebhookConfiguration or Service for tag")]
    NoTag(String),
}

/// What a tag is made for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tag.
    pub tag: Tag,
    /// The revision it points at.
    pub revision: Revision,
    /// Namespace of the control plane.
    pub namespace: String,
    /// May the tag exist already?
    pub overwrite: bool,
    /// May the revision have no ready control plane, or not answer?
    pub force: bool,
    /// May the tag be Helm's, to be taken over?
    pub take_over: bool,
    /// Inject namespaces that say nothing (tag `default` only). A tag that does so already goes on doing it.
    pub automatic: bool,
    /// Name of the webhook configuration instead of the one that it has, or the usual one.
    pub webhook_name: Option<String>,
    /// Further labels, for tags that the installer makes; with them the objects stay the installer's.
    pub labels: BTreeMap<String, String>,
}

/// A tag's objects and the one that they switch off.
#[derive(Clone, Debug, PartialEq)]
pub struct TagObjects {
    /// Webhook configuration, validator (tag `default` only), Service.
    pub apply: Vec<Object>,
    /// The webhook configuration of the unnamed revision, with selectors that match nothing.
    pub deactivate: Option<Object>,
    /// Revision the tag pointed at before.
    pub previous: Option<String>,
    /// The release of Helm that the tag is taken over from.
    pub of_helm: Option<OfHelm>,
    /// Namespace of the other mesh whose validator of configuration stays as it is.
    pub validated_by: Option<String>,
}

/// The objects that make a tag, if the cluster allows it. `generate` leaves the cluster's own objects alone.
pub fn build(request: &Request, inventory: &Inventory, generate: bool) -> Result<TagObjects, TagError> {
    let (tag, revision) = (request.tag.as_str(), request.revision.label());
    let previous = inventory.target(tag).map(str::to_owned);
    // Also with `--overwrite`: both would inject every pod that is labelled so (revisions.md §12, T13).
    let is_new = previous.is_none() || !request.overwrite;
    if !generate && is_new && !request.tag.is_default() && inventory.is_revision(tag) {
        return Err(TagError::IsRevision(tag.to_owned()));
    }
    let (canonical, local) = inventory.canonical(revision)?;
    // The upgrade page moves `default` without a flag (operators.md §1).
    if !request.overwrite
        && !request.tag.is_default()
        && previous.is_some()
        && !inventory.is_half_made(tag, revision, local)
    {
        return Err(TagError::Exists(tag.to_owned()));
    }
    let of_helm = if generate {
        None
    } else {
        inventory.of_helm(tag, revision)
    };
    if let (Some(of_helm), false) = (&of_helm, request.take_over) {
        return Err(TagError::Helm(of_helm.clone()));
    }
    let injector = injector(canonical).ok_or_else(|| TagError::NoInjector(canonical.name().to_owned()))?;
    // A control plane elsewhere is reached by a URL, and its pods are not ours to look at.
    let is_here = injector.pointer("/clientConfig/url").is_none();
    if is_here && !generate && !request.force && !inventory.is_ready(revision) {
        let revision = revision.to_owned();
        return Err(match of_helm {
            Some(_) => TagError::NotTaken(revision),
            None => TagError::NotReady(revision),
        });
    }
    let options = Options {
        automatic: request.automatic || (!generate && inventory.is_automatic(tag)),
        precedence: Precedence::of_webhooks(webhook_names(canonical)),
    };
    let live = if generate { None } else { live_name(tag, inventory) };
    let name = match (live, request.webhook_name.as_deref()) {
        (Some(live), Some(wanted)) if live != wanted => {
            return Err(TagError::OtherName {
                tag: tag.to_owned(),
                live: live.to_owned(),
                wanted: wanted.to_owned(),
            });
        }
        (Some(name), _) | (None, Some(name)) => name.to_owned(),
        (None, None) => request.tag.injector_webhook(&request.namespace),
    };
    let others = inventory
        .webhooks
        .iter()
        .filter(|webhook| webhook.label(label::TAG) != tag);
    if !generate && others.chain(&inventory.strangers).any(|other| other.name() == name) {
        return Err(TagError::NameTaken(name));
    }
    let mut apply = vec![mutating(request, &name, canonical, injector, options)];
    if let Some(before) = remembered(inventory, tag, revision) {
        apply[0].0["metadata"]["annotations"] = json!({ PREVIOUS: before });
    }
    let (mut deactivate, mut validated_by) = (None, None);
    if request.tag.is_default() {
        if !generate {
            deactivate = unnamed(inventory)
                .filter(|webhook| !is_deactivated(webhook))
                .map(deactivated);
        }
        validated_by = validator_of_others(request, inventory).filter(|_| !generate);
        if validated_by.is_none() {
            apply.push(validating(request, injector, inventory));
        }
    }
    if local || injector.pointer("/clientConfig/service").is_some() {
        apply.push(service(request));
    }
    Ok(TagObjects {
        apply,
        deactivate,
        validated_by,
        previous,
        of_helm,
    })
}

impl TagObjects {
    /// What is said where another mesh keeps the validator.
    pub fn not_validated(&self) -> Option<String> {
        let other = self.validated_by.as_ref()?;
        Some(format!(
            "{0} stays with the mesh of namespace {other:?}, whose istiod goes on checking configuration that names no \
             revision. If that mesh is gone: kubectl delete validatingwebhookconfiguration {0}, and make the tag again",
            object::DEFAULT_VALIDATOR
        ))
    }
}

/// Namespace of the other mesh to which the validator of configuration without a revision leads; there is one in a cluster.
fn validator_of_others(request: &Request, inventory: &Inventory) -> Option<String> {
    let mut validators = inventory.validators.iter();
    let live = validators.find(|live| live.name() == object::DEFAULT_VALIDATOR)?;
    let namespace = live.called_namespace();
    (!leads_to(live, &request.namespace)).then(|| namespace.to_owned())
}

/// The name of the webhook configuration that a tag has here: whatever it is, a second one would inject beside it.
fn live_name<'a>(tag: &str, inventory: &'a Inventory) -> Option<&'a str> {
    let mut of_tag = inventory
        .webhooks
        .iter()
        .filter(|webhook| webhook.label(label::TAG) == tag);
    of_tag.next().map(Object::name)
}

/// Does a webhook configuration call a control plane of this namespace? (The same revision may exist in another.)
pub(crate) fn leads_to(webhook: &Object, namespace: &str) -> bool {
    let of = webhook.called_namespace();
    of.is_empty() || of == namespace
}

/// Where a tag pointed before it points at `revision`: a move notes it, the same move again keeps what was noted.
fn remembered<'a>(inventory: &'a Inventory, tag: &str, revision: &str) -> Option<&'a str> {
    match inventory.target(tag) {
        Some(current) if current != revision => Some(current),
        Some(_) => inventory.previous(tag),
        None => None,
    }
}

/// Does a configuration inject, whatever its labels say?
pub(crate) fn is_injector(configuration: &Object) -> bool {
    injector(configuration).is_some()
}

/// The first injection webhook of a configuration.
fn injector(configuration: &Object) -> Option<&Value> {
    let webhooks = configuration.0.get("webhooks")?.as_array()?;
    webhooks.iter().find(|webhook| {
        webhook["name"]
            .as_str()
            .is_some_and(|name| name.ends_with(WEBHOOK_SUFFIX))
    })
}

/// Names of the webhooks of a configuration.
pub(crate) fn webhook_names(configuration: &Object) -> impl Iterator<Item = &str> {
    let webhooks = configuration.0.get("webhooks").and_then(Value::as_array);
    webhooks
        .into_iter()
        .flatten()
        .filter_map(|webhook| webhook["name"].as_str())
}

/// The webhook configuration of the unnamed revision.
pub(crate) fn unnamed(inventory: &Inventory) -> Option<&Object> {
    inventory.webhooks.iter().find(|w| {
        w.label(label::REVISION) == api::names::DEFAULT_REVISION
            && w.label(label::TAG).is_empty()
            && injector(w).is_some()
    })
}

/// Do its selectors match nothing (revisions.md §2.6)?
pub fn is_deactivated(configuration: &Object) -> bool {
    let webhooks = configuration.0.get("webhooks").and_then(Value::as_array);
    let never = |webhook: &Value| {
        webhook
            .pointer("/namespaceSelector/matchLabels")
            .and_then(|labels| labels.get(DEACTIVATED_KEY))
            .is_some()
    };
    webhooks.is_some_and(|webhooks| webhooks.iter().all(never))
}

/// The same configuration with selectors that match nothing, so that the tag `default` is the only one to answer.
pub fn deactivated(configuration: &Object) -> Object {
    let mut object = configuration.clone();
    let never = json!({"matchLabels": {DEACTIVATED_KEY: "never-match"}});
    for webhook in object
        .0
        .get_mut("webhooks")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        webhook["namespaceSelector"] = never.clone();
        webhook["objectSelector"] = never.clone();
    }
    object
}

fn mutating(request: &Request, name: &str, canonical: &Object, injector: &Value, options: Options) -> Object {
    let mut client = Map::new();
    for key in ["service", "url", "caBundle"] {
        if let Some(value) = injector
            .pointer(&format!("/clientConfig/{key}"))
            .filter(|value| !value.is_null())
        {
            client.insert(key.to_owned(), value.clone());
        }
    }
    let webhooks = of_tag(&request.tag, options).into_iter().map(|webhook| {
        json!({
            "name": webhook.name,
            "clientConfig": client,
            "sideEffects": "None",
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "failurePolicy": "Fail",
            "reinvocationPolicy": injector.get("reinvocationPolicy").cloned().unwrap_or_else(|| "Never".into()),
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": webhook.namespaces.to_label_selector(),
            "objectSelector": webhook.objects.to_label_selector(),
        })
    });
    let mut labels = canonical.labels();
    // What the installer or Helm put on the revision's own object says nothing of the tag.
    labels.retain(|key, _| {
        !key.contains("operator.istio.io") && ![label::APP_MANAGED_BY, label::HELM_CHART].contains(&key.as_str())
    });
    labels.insert(label::APP.to_owned(), "sidecar-injector".to_owned());
    Object(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": metadata(request, name, None, labels),
        "webhooks": webhooks.collect::<Vec<_>>(),
    }))
}

/// Of a validator that is not the tag's, what says where it leads, for a revision.
///
/// # Errors
/// The revision has no injector.
pub(crate) fn validator_of(revision: &Revision, namespace: &str, inventory: &Inventory) -> Result<Object, TagError> {
    let (canonical, _) = inventory.canonical(revision.label())?;
    let injector = injector(canonical).ok_or_else(|| TagError::NoInjector(canonical.name().to_owned()))?;
    Ok(helm::repointed(revision, validation(revision, namespace, injector)))
}

/// The webhook that validates objects without a revision (revisions.md §3.6).
fn validation(revision: &Revision, namespace: &str, injector: &Value) -> Value {
    let mut client = Map::new();
    if let Some(url) = injector.pointer("/clientConfig/url").and_then(Value::as_str) {
        let host = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        client.insert("url".to_owned(), format!("{host}/validate").into());
    } else {
        let service = json!({"name": revision.istiod(), "namespace": namespace, "path": "/validate"});
        client.insert("service".to_owned(), service);
    }
    if let Some(bundle) = injector.pointer("/clientConfig/caBundle") {
        client.insert("caBundle".to_owned(), bundle.clone());
    }
    json!({
        "name": object::DEFAULT_VALIDATION_WEBHOOK,
        "clientConfig": client,
        "rules": [{
            "operations": ["CREATE", "UPDATE"],
            "apiGroups": ["security.istio.io", "networking.istio.io", "telemetry.istio.io", "extensions.istio.io"],
            "apiVersions": ["*"],
            "resources": ["*"],
        }],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "objectSelector": {"matchExpressions": [{"key": label::REVISION, "operator": "DoesNotExist"}]},
    })
}

/// The validator of the tag `default`. Once istiod has closed it, `failurePolicy` is istiod's and left out here.
fn validating(request: &Request, injector: &Value, inventory: &Inventory) -> Object {
    let mut webhook = validation(&request.revision, &request.namespace, injector);
    let live = inventory
        .validators
        .iter()
        .find(|object| object.name() == object::DEFAULT_VALIDATOR);
    if live.and_then(owner::release).is_some() {
        return helm::repointed(&request.revision, webhook);
    }
    let policy = live
        .and_then(|object| {
            object
                .0
                .get("webhooks")?
                .as_array()?
                .iter()
                .find(|w| w["name"] == object::DEFAULT_VALIDATION_WEBHOOK)
        })
        .and_then(|webhook| webhook["failurePolicy"].as_str());
    if policy != Some("Fail") {
        webhook["failurePolicy"] = policy.unwrap_or("Ignore").into();
    }
    let labels = BTreeMap::from([
        (label::APP.to_owned(), "istiod".to_owned()),
        (label::ISTIO.to_owned(), "istiod".to_owned()),
    ]);
    Object(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata(request, object::DEFAULT_VALIDATOR, None, labels),
        "webhooks": [webhook],
    }))
}

/// The Service by which a tag is known without webhooks. It carries no `app=istiod`: that label lists control planes.
fn service(request: &Request) -> Object {
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP"});
    let mut webhook = port("https-webhook", 443);
    webhook["targetPort"] = api::names::port::WEBHOOK.into();
    let labels = BTreeMap::from([(label::ISTIO.to_owned(), "pilot".to_owned())]);
    Object(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(request, &request.tag.service(), Some(&request.namespace), labels),
        "spec": {
            "ports": [
                port("grpc-xds", api::names::port::XDS_PLAINTEXT),
                port("https-dns", api::names::port::XDS_TLS),
                webhook,
                port("http-monitoring", api::names::port::MONITORING),
            ],
            "selector": {label::APP: "istiod", label::REVISION: request.revision.label()},
        },
    }))
}

fn metadata(request: &Request, name: &str, namespace: Option<&str>, mut labels: BTreeMap<String, String>) -> Value {
    labels.insert(label::RELEASE.to_owned(), "istio".to_owned());
    labels.insert(label::APP_NAME.to_owned(), "istiod".to_owned());
    labels.insert(label::APP_PART_OF.to_owned(), "istio".to_owned());
    labels.insert(label::REVISION.to_owned(), request.revision.label().to_owned());
    labels.insert(label::TAG.to_owned(), request.tag.as_str().to_owned());
    labels.extend(request.labels.clone());
    let mut metadata = json!({"name": name, "labels": labels});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

/// The objects of a tag, in the order in which they are removed: what they point at goes last. The validator of the tag
/// `default` is one for the whole cluster, and stays if it leads into another mesh.
///
/// # Errors
/// If there are none.
pub fn removal<'a>(inventory: &'a Inventory, tag: &str) -> Result<Vec<&'a Object>, TagError> {
    let (services, webhooks): (Vec<&Object>, Vec<_>) = inventory.of_tag(tag).partition(|it| it.kind() == "Service");
    if services.is_empty() && webhooks.is_empty() {
        return Err(TagError::NoTag(tag.to_owned()));
    }
    let within = services.iter().map(|service| service.namespace());
    let within: BTreeSet<&str> = within
        .chain(webhooks.iter().map(|webhook| webhook.called_namespace()))
        .collect();
    let is_ours = |validator: &&'a Object| {
        let calls = validator.called_namespace();
        validator.label(label::TAG) == tag && (calls.is_empty() || within.contains(calls))
    };
    let validators = inventory.validators.iter().filter(is_ours);
    Ok(webhooks
        .iter()
        .copied()
        .chain(validators)
        .chain(services.iter().copied())
        .collect())
}

#[cfg(test)]
#[path = "tag_tests.rs"]
mod tests;
