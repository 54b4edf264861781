//! Webhook configurations: which revision is the default, whose `caBundle` is ours to keep fresh, and when validation
//! may start to refuse (revisions.md §2.7, §4.1, §4.5).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ca::Current;
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use revision::ownership::Names;
use revision::webhook::{REVISION_KEY, WEBHOOK_SUFFIX};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::feed::WATCH_SECONDS;

/// Label of a tag's webhook configuration.
const TAG_KEY: &str = "istio.io/tag";
/// Webhook configuration of the default tag.
const DEFAULT_TAG: &str = "istio-revision-tag-default";
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

/// Numbers for the metrics page.
#[derive(Debug, Default)]
pub struct Counters {
    /// Attempts to write an injector's `caBundle`.
    pub attempts: AtomicU64,
    /// Failed attempts.
    pub failures: AtomicU64,
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
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
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
        let config = watcher::Config {
            timeout: Some(WATCH_SECONDS),
            ..watcher::Config::default()
        };
        let mutating = watcher(
            Api::<MutatingWebhookConfiguration>::all(self.client.clone()),
            config.clone(),
        );
        let validating = watcher(Api::<ValidatingWebhookConfiguration>::all(self.client.clone()), config);
        let (mut mutating, mut validating) = (
            std::pin::pin!(mutating.default_backoff()),
            std::pin::pin!(validating.default_backoff()),
        );
        let (mut injectors, mut validators) = (Mutating::new(), Validating::new());
        let (mut first, mut second, mut refuses) = (false, false, false);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));
        let mut retry: Option<tokio::time::Instant> = None;
        let mut roots = self.authority.subscribe();
        loop {
            tokio::select! {
                Some(event) = mutating.next() => first |= track(&mut injectors, event),
                Some(event) = validating.next() => second |= track(&mut validators, event),
                changed = roots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(retry.unwrap_or_else(tokio::time::Instant::now)), if retry.is_some() => {}
            }
            if !(first && second) {
                continue;
            }
            let now = self.standing(&injectors, &validators);
            standing.send_if_modified(|held| {
                let differs = held.as_ref() != Some(&now);
                *held = Some(now);
                differs
            });
            let bundle = roots.borrow_and_update().roots_pem().into_bytes();
            let mut done = true;
            if self.injection {
                done &= self.patch_injectors(&mut injectors, &bundle).await;
            }
            if self.validation {
                done &= self.patch_validators(&mut validators, &bundle, &mut refuses).await;
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
            .filter_map(|w| label(w, REVISION_KEY).zip(label(w, TAG_KEY)))
            .collect();
        let default_tag = injectors.get(DEFAULT_TAG);
        let validator = validators
            .get(DEFAULT_VALIDATOR)
            .and_then(|v| v.labels().get(REVISION_KEY));
        let pairs = tags.iter().map(|(revision, tag)| (revision.as_str(), tag.as_str()));
        Standing {
            default: default_tag.and_then(|w| label(w, REVISION_KEY)),
            names: Names::new(
                &self.revision,
                pairs,
                validator.map(String::as_str),
                default_tag.is_some(),
            ),
        }
    }

    /// `false` if something should be tried again.
    async fn patch_injectors(&self, injectors: &mut Mutating, bundle: &[u8]) -> bool {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let mut done = true;
        let wanted: Vec<_> = injectors
            .values()
            .filter_map(|held| with_bundle(held, &self.revision, bundle))
            .collect();
        for next in wanted {
            let name = next.name_any();
            self.counters.attempts.fetch_add(1, Relaxed);
            match api.replace(&name, &self.writer(), &next).await {
                Ok(written) => {
                    tracing::info!(webhook = name, "caBundle written");
                    injectors.insert(name, written);
                }
                Err(error) => {
                    self.counters.failures.fetch_add(1, Relaxed);
                    done &= self.is_settled(&name, &error);
                }
            }
        }
        done
    }

    async fn patch_validators(&self, validators: &mut Validating, bundle: &[u8], refuses: &mut bool) -> bool {
        let mine = validators
            .values()
            .any(|held| held.labels().get(REVISION_KEY) == Some(&self.revision));
        if mine && !*refuses {
            *refuses = self.refuses_nonsense().await;
        }
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let mut done = *refuses || !mine;
        let wanted: Vec<_> = validators
            .values()
            .filter_map(|held| with_policy(held, &self.revision, bundle, *refuses))
            .collect();
        for next in wanted {
            let name = next.name_any();
            match api.replace(&name, &self.writer(), &next).await {
                Ok(written) => {
                    tracing::info!(webhook = name, fail_closed = *refuses, "validation webhook written");
                    validators.insert(name, written);
                }
                Err(error) => done &= self.is_settled(&name, &error),
            }
        }
        done
    }

    /// A conflict brings a watch event with the newer object, so only other errors need another try.
    fn is_settled(&self, name: &str, error: &kube::Error) -> bool {
        let expected = matches!(error, kube::Error::Api(status) if status.code == 409 || status.code == 404);
        if !expected {
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
        let asked = tokio::time::timeout(Duration::from_secs(10), api.create(&dry, &probe)).await;
        let Ok(Err(kube::Error::Api(status))) = asked else {
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

/// Keeps a map of objects by name; `true` when the first list is complete.
fn track<K: ResourceExt>(objects: &mut BTreeMap<String, K>, event: Result<watcher::Event<K>, watcher::Error>) -> bool {
    match event {
        Ok(watcher::Event::Init) => objects.clear(),
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
            objects.insert(object.name_any(), object);
        }
        Ok(watcher::Event::Delete(object)) => {
            objects.remove(&object.name_any());
        }
        Ok(watcher::Event::InitDone) => return true,
        Err(error) => tracing::warn!(%error, "watch of webhook configurations failed; trying again"),
    }
    false
}

/// The configuration with our bundle in its injector webhooks; `None` if it is not ours or holds it already.
fn with_bundle(
    held: &MutatingWebhookConfiguration,
    revision: &str,
    bundle: &[u8],
) -> Option<MutatingWebhookConfiguration> {
    if held.labels().get(REVISION_KEY).map(String::as_str) != Some(revision) {
        return None;
    }
    let mut next = held.clone();
    let ours = next
        .webhooks
        .iter_mut()
        .flatten()
        .filter(|webhook| webhook.name.ends_with(WEBHOOK_SUFFIX));
    ours.for_each(|webhook| webhook.client_config.ca_bundle = Some(ByteString(bundle.to_vec())));
    (next != *held).then_some(next)
}

/// The configuration with our bundle and, once validation works, failing closed; `None` if nothing changes. It never
/// goes back to ignoring failures.
fn with_policy(
    held: &ValidatingWebhookConfiguration,
    revision: &str,
    bundle: &[u8],
    refuses: bool,
) -> Option<ValidatingWebhookConfiguration> {
    if held.labels().get(REVISION_KEY).map(String::as_str) != Some(revision) {
        return None;
    }
    let mut next = held.clone();
    for webhook in next.webhooks.iter_mut().flatten() {
        webhook.client_config.ca_bundle = Some(ByteString(bundle.to_vec()));
        if refuses {
            webhook.failure_policy = Some("Fail".to_owned());
        }
    }
    (next != *held).then_some(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn injector(revision: &str) -> MutatingWebhookConfiguration {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "w", "labels": { "istio.io/rev": revision } },
            "webhooks": [
                { "name": "rev.namespace.sidecar-injector.istio.io", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"] },
                { "name": "other.example.com", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"] },
            ],
        }))
        .unwrap()
    }

    #[test]
    fn only_own_injector_webhooks_get_the_bundle_and_only_once() {
        let next = with_bundle(&injector("canary"), "canary", b"pem").unwrap();
        let bundles: Vec<bool> = next
            .webhooks
            .iter()
            .flatten()
            .map(|w| w.client_config.ca_bundle.is_some())
            .collect();
        assert_eq!(bundles, [true, false]);
        assert_eq!(with_bundle(&next, "canary", b"pem"), None, "nothing to do");
        assert_eq!(
            with_bundle(&injector("stable"), "canary", b"pem"),
            None,
            "another revision's"
        );
    }

    #[test]
    fn validation_fails_closed_only_after_it_worked() {
        let held: ValidatingWebhookConfiguration = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "v", "labels": { "istio.io/rev": "canary" } },
            "webhooks": [{ "name": "rev.validation.istio.io", "clientConfig": {}, "failurePolicy": "Ignore", "sideEffects": "None", "admissionReviewVersions": ["v1"] }],
        }))
        .unwrap();
        let policy = |refuses| {
            let next = with_policy(&held, "canary", b"pem", refuses).unwrap();
            next.webhooks.unwrap()[0].failure_policy.clone().unwrap()
        };
        assert_eq!((&*policy(false), &*policy(true)), ("Ignore", "Fail"));
    }
}
