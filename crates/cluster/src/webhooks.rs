//! Webhook configurations: which revision is the default, whose `caBundle` is ours to keep fresh, and when validation
//! may start to refuse (revisions.md §2.7, §4.1, §4.5).

mod backends;
mod counters;
mod fields;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ca::Current;
use futures::StreamExt;
use futures::future::{FutureExt as _, join_all};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use revision::name::DEFAULT;
use revision::ownership::Names;
use revision::webhook::{REVISION_KEY, WEBHOOK_SUFFIX};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::budget::{Ledger, Meter, Unwritten, Writer};
use crate::deadline::timely;
use crate::events::{self, Events};
use crate::watching::watching;
use backends::Backends;
pub use backends::Finding;
pub use counters::{Counters, Patches, Reason};
use fields::{Backend, Policy, backend, leads_to, with_bundle, with_policy};

/// Label of a tag's webhook configuration.
const TAG_KEY: &str = "istio.io/tag";
/// Validating webhook of the default revision.
const DEFAULT_VALIDATOR: &str = "istiod-default-validator";

/// What the webhook configurations say about revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The default revision, if there is a default tag.
    pub default: Option<String>,
    /// Names under which this revision can be selected.
    pub names: Names,
}

/// Keeps this revision's webhooks.
pub struct Keeper {
    /// Client that may watch and update webhook configurations.
    pub client: Client,
    /// Own revision.
    pub revision: String,
    /// System namespace.
    pub namespace: String,
    /// Whose roots go into `caBundle`.
    pub authority: Current,
    /// Whether the injector's webhooks are ours to write.
    pub injection: bool,
    /// Whether the validator's webhooks are ours to write.
    pub validation: bool,
    /// Counts.
    pub counters: Arc<Counters>,
    /// Whether this process leads, and so tells of, and repairs, what belongs to a revision that is gone.
    pub leads: watch::Receiver<bool>,
    /// Where warnings go.
    pub events: Events,
    /// Allowances of writes.
    pub ledger: Arc<Ledger>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

/// Allowances of the two writers.
struct Meters {
    bundle: Meter,
    validator: Meter,
}

/// What a validator's policy depends on.
struct Known<'a> {
    backends: &'a Backends,
    /// Whether that was learned just now. What an istiod that came back has closed must not be opened by what was known
    /// before.
    looked: bool,
    leader: bool,
    /// Whether our validator was seen to refuse nonsense.
    refuses: &'a mut bool,
}

type Mutating = BTreeMap<String, MutatingWebhookConfiguration>;
type Validating = BTreeMap<String, ValidatingWebhookConfiguration>;

impl Keeper {
    /// Runs for ever; the value is `None` until everything was read once.
    pub fn run(self) -> watch::Receiver<Option<Standing>> {
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(self.keep(sender));
        receiver
    }

    async fn keep(self, standing: watch::Sender<Option<Standing>>) {
        let mutating = watching(Api::<MutatingWebhookConfiguration>::all(self.client.clone()), None);
        let validating = watching(Api::<ValidatingWebhookConfiguration>::all(self.client.clone()), None);
        let (mut mutating, mut validating) = (std::pin::pin!(mutating), std::pin::pin!(validating));
        let (mut injectors, mut validators) = (Mutating::new(), Validating::new());
        let (mut first, mut second, mut refuses) = (false, false, false);
        let mut backends = Backends::default();
        let meters = Meters {
            bundle: Meter::new(Writer::CaBundle, self.ledger.clone(), self.events.clone()),
            validator: Meter::new(Writer::Validator, self.ledger.clone(), self.events.clone()),
        };
        let mut check = tokio::time::interval(backends::CHECK);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut leads = self.leads.clone();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));
        let mut retry: Option<tokio::time::Instant> = None;
        let mut roots = self.authority.subscribe();
        let mut look = true;
        loop {
            tokio::select! {
                Some(event) = mutating.next() => track(&mut injectors, event, &mut first),
                Some(event) = validating.next() => track(&mut validators, event, &mut second),
                _ = check.tick() => look = true,
                Ok(()) = leads.changed() => {}
                changed = roots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(retry.unwrap_or_else(tokio::time::Instant::now)), if retry.is_some() => {}
            }
            // What follows may take as long as requests may: all news that is there comes before it, not one of several.
            while let Some(Some(event)) = mutating.next().now_or_never() {
                track(&mut injectors, event, &mut first);
            }
            while let Some(Some(event)) = validating.next().now_or_never() {
                track(&mut validators, event, &mut second);
            }
            if !(first && second) {
                // The list that is being read brings everything.
                retry = None;
                continue;
            }
            let now = self.standing(&injectors, &validators);
            standing.send_if_modified(|held| {
                let differs = held.as_ref() != Some(&now);
                *held = Some(now);
                differs
            });
            let leader = *leads.borrow_and_update();
            let looked = std::mem::take(&mut look);
            if looked {
                self.look(&injectors, &validators, &mut backends, leader).await;
            }
            let bundle = roots.borrow_and_update().roots_pem().into_bytes();
            let mut done = true;
            if self.injection {
                done &= self.patch_injectors(&mut injectors, &bundle, &meters.bundle).await;
            }
            if self.validation {
                let known = Known {
                    backends: &backends,
                    looked,
                    leader,
                    refuses: &mut refuses,
                };
                done &= self
                    .patch_validators(&mut validators, &bundle, known, &meters.validator)
                    .await;
            }
            if done {
                backoff.reset();
            }
            retry = (!done).then(|| tokio::time::Instant::now() + backoff.pause());
        }
    }

    fn standing(&self, injectors: &Mutating, validators: &Validating) -> Standing {
        let label = |object: &MutatingWebhookConfiguration, key: &str| object.labels().get(key).cloned();
        let tags: Vec<(String, String)> = injectors
            .values()
            .filter(|w| {
                w.webhooks
                    .iter()
                    .flatten()
                    .any(|w| leads_to(&w.client_config, &self.namespace))
            })
            .filter_map(|w| label(w, REVISION_KEY).zip(label(w, TAG_KEY)))
            .collect();
        let default = tags
            .iter()
            .find(|(_, tag)| tag == DEFAULT)
            .map(|(revision, _)| revision.clone());
        let validator = validators
            .get(DEFAULT_VALIDATOR)
            .filter(|v| self.is_ours(v))
            .and_then(|v| v.labels().get(REVISION_KEY));
        let pairs = tags.iter().map(|(revision, tag)| (revision.as_str(), tag.as_str()));
        Standing {
            names: Names::new(&self.revision, pairs, validator.map(String::as_str), default.is_some()),
            default,
        }
    }

    /// Whether a validator is one of this mesh: there may be others in the cluster, with revisions of the same names.
    fn is_ours(&self, validator: &ValidatingWebhookConfiguration) -> bool {
        let mut webhooks = validator.webhooks.iter().flatten();
        webhooks.any(|webhook| leads_to(&webhook.client_config, &self.namespace))
    }

    /// `false` if something should be tried again.
    async fn patch_injectors(&self, injectors: &mut Mutating, bundle: &[u8], meter: &Meter) -> bool {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let mut done = true;
        let wanted: Vec<_> = injectors
            .values()
            .filter_map(|held| with_bundle(held, &self.revision, &self.namespace, bundle))
            .collect();
        let writes = wanted.iter().map(async |next| {
            let (object, name, writer) = (events::reference(next), next.name_any(), self.writer());
            let request = async {
                self.counters.attempted();
                api.replace(&name, &writer, next).await
            };
            meter.write(&object, request).await
        });
        for (next, written) in wanted.iter().zip(join_all(writes).await) {
            let name = next.name_any();
            match written {
                Ok(written) => {
                    tracing::info!(webhook = name, "caBundle written");
                    injectors.insert(name, written);
                }
                Err(error) => {
                    let settled = self.is_settled(&name, &error);
                    if matches!(error, Unwritten::Failed(_)) {
                        self.counters.failed(&name, Reason::of(error.code()), !settled);
                    }
                    done &= settled;
                }
            }
        }
        done
    }

    /// `false` if something should be tried again.
    async fn patch_validators(
        &self,
        validators: &mut Validating,
        bundle: &[u8],
        known: Known<'_>,
        meter: &Meter,
    ) -> bool {
        let is_own = |held: &ValidatingWebhookConfiguration| held.labels().get(REVISION_KEY) == Some(&self.revision);
        let mine = validators.values().any(|held| self.is_ours(held) && is_own(held));
        // An answer that came through the Service proves more than endpoints that were read before it.
        let proved = mine && !*known.refuses && self.refuses_nonsense().await;
        *known.refuses |= proved;
        let (refuses, now) = (*known.refuses, tokio::time::Instant::now());
        let policy = |own: bool, backend: Option<&Backend>| match backend {
            _ if own && proved => Policy::Close,
            Some(backend) if known.looked && known.backends.is_abandoned(backend, now) => Policy::Open,
            Some(backend) if known.backends.is_missing(backend) => Policy::Keep,
            _ if own && refuses => Policy::Close,
            _ => Policy::Keep,
        };
        let mut done = refuses || !mine;
        let wanted: Vec<_> = validators
            .values()
            .filter(|held| self.is_ours(held))
            // What belongs to a revision that is gone has one heir.
            .filter(|held| is_own(held) || (known.leader && held.labels().contains_key(REVISION_KEY)))
            .filter_map(|held| {
                let own = is_own(held);
                with_policy(held, own.then_some(bundle), |backend| policy(own, backend))
            })
            .collect();
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let writes = wanted.iter().map(async |next| {
            let (object, name, writer) = (events::reference(next), next.name_any(), self.writer());
            meter.write(&object, api.replace(&name, &writer, next)).await
        });
        for (next, written) in wanted.iter().zip(join_all(writes).await) {
            let name = next.name_any();
            match written {
                Ok(written) => {
                    let policies: Vec<_> = next.webhooks.iter().flatten().map(|w| &w.failure_policy).collect();
                    tracing::info!(webhook = name, ?policies, "validation webhook written");
                    validators.insert(name, written);
                }
                Err(error) => done &= self.is_settled(&name, &error),
            }
        }
        done
    }

    /// Looks behind the Services of all revisions' webhooks, and tells of those that nobody answers.
    async fn look(&self, injectors: &Mutating, validators: &Validating, backends: &mut Backends, leader: bool) {
        let webhooks = called(injectors, validators);
        let services = webhooks.iter().map(|(_, service)| service.clone()).collect();
        backends.look(&self.client, services).await;
        let now = tokio::time::Instant::now();
        let missing = webhooks
            .into_iter()
            .filter(|(_, service)| backends.is_missing_still(service, now));
        let found: BTreeSet<Finding> = missing.map(|(finding, _)| finding).collect();
        let before = self.counters.found(found.clone());
        for finding in found.difference(&before) {
            let (configuration, webhook, service) = (&finding.configuration, &finding.webhook, &finding.service);
            tracing::warn!(
                configuration,
                webhook,
                service,
                "webhook points at a service without ready endpoints"
            );
        }
        // One of all istiods tells; again and again, because events go after an hour.
        let warnings = found.iter().filter(|_| leader).filter_map(|finding| {
            let name = &finding.configuration;
            let object = match finding.kind {
                MUTATING => injectors.get(name).map(events::reference),
                _ => validators.get(name).map(events::reference),
            }?;
            Some(async move {
                let note = finding.note();
                self.events
                    .warn(&object, "WebhookWithoutEndpoints", "Check", note)
                    .await;
            })
        });
        join_all(warnings).await;
    }

    /// A conflict brings a watch event with the newer object, so only other errors need another try.
    fn is_settled(&self, name: &str, error: &Unwritten) -> bool {
        let expected = matches!(error.code(), Some(404 | 409));
        if !expected && matches!(error, Unwritten::Failed(_)) {
            tracing::warn!(webhook = name, %error, "webhook configuration not written; trying again");
        }
        expected
    }

    fn writer(&self) -> PostParams {
        PostParams {
            field_manager: Some(format!("istiod-{}", self.revision)),
            ..PostParams::default()
        }
    }

    /// Whether our validator answers: it must refuse a Gateway that asks to be refused.
    async fn refuses_nonsense(&self) -> bool {
        let resource = ApiResource {
            group: "networking.istio.io".into(),
            version: "v1".into(),
            api_version: "networking.istio.io/v1".into(),
            kind: "Gateway".into(),
            plural: "gateways".into(),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let mut probe = DynamicObject::new("invalid-gateway", &resource);
        probe
            .labels_mut()
            .insert(REVISION_KEY.to_owned(), self.revision.clone());
        probe
            .annotations_mut()
            .insert("internal.istio.io/webhook-always-reject".to_owned(), "true".to_owned());
        probe.data = serde_json::json!({ "spec": {} });
        let dry = PostParams {
            dry_run: true,
            ..self.writer()
        };
        let Err(kube::Error::Api(status)) = timely(api.create(&dry, &probe)).await else {
            return false;
        };
        const READY: [&str; 3] = [
            "denied the request",
            "the server could not find the requested resource",
            "does not support dry run",
        ];
        READY.iter().any(|part| status.message.contains(part))
    }
}

/// Webhooks of all revisions with the Services that they call.
fn called(injectors: &Mutating, validators: &Validating) -> Vec<(Finding, Backend)> {
    let one = |kind, configuration: &str, webhook: &str, client: &WebhookClientConfig, policy: Option<&String>| {
        let service = backend(client)?;
        let finding = Finding {
            kind,
            configuration: configuration.to_owned(),
            webhook: webhook.to_owned(),
            service: format!("{}/{}", service.0, service.1),
            fails_closed: policy.is_none_or(|policy| policy == "Fail"),
        };
        Some((finding, service))
    };
    let mut found = Vec::new();
    for (name, held) in injectors
        .iter()
        .filter(|(_, held)| held.labels().contains_key(REVISION_KEY))
    {
        let webhooks = held.webhooks.iter().flatten();
        let injecting = webhooks.filter(|w| w.name.ends_with(WEBHOOK_SUFFIX));
        found.extend(
            injecting.filter_map(|w| one(MUTATING, name, &w.name, &w.client_config, w.failure_policy.as_ref())),
        );
    }
    for (name, held) in validators
        .iter()
        .filter(|(_, held)| held.labels().contains_key(REVISION_KEY))
    {
        let webhooks = held.webhooks.iter().flatten();
        found.extend(
            webhooks.filter_map(|w| one(VALIDATING, name, &w.name, &w.client_config, w.failure_policy.as_ref())),
        );
    }
    found
}

impl Finding {
    fn note(&self) -> String {
        let effect = match (self.kind, self.fails_closed) {
            (MUTATING, true) => "pods that it selects cannot be created",
            (MUTATING, false) => "pods that it selects start without a proxy",
            (_, true) => "configuration that it selects cannot be written",
            (_, false) => "configuration that it selects is not checked",
        };
        format!(
            "webhook {} points at service {} without ready endpoints: {effect}; start an istiod behind the service, move \
             the tag (istioctl tag set), or remove the revision (istioctl uninstall --revision)",
            self.webhook, self.service
        )
    }
}

/// Keeps a map of objects by name; `known` is false while a list is read, so that nothing is decided by half of it.
fn track<K: ResourceExt>(
    objects: &mut BTreeMap<String, K>,
    event: Result<watcher::Event<K>, watcher::Error>,
    known: &mut bool,
) {
    match event {
        Ok(watcher::Event::Init) => {
            *known = false;
            objects.clear();
        }
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
            objects.insert(object.name_any(), object);
        }
        Ok(watcher::Event::Delete(object)) => {
            objects.remove(&object.name_any());
        }
        Ok(watcher::Event::InitDone) => *known = true,
        Err(error) => tracing::warn!(%error, "watch of webhook configurations failed; trying again"),
    }
}

#[cfg(test)]
#[path = "webhooks_tests.rs"]
mod tests;
