//! Which fields of a webhook configuration should hold what.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::ResourceExt;
use revision::webhook::{REVISION_KEY, WEBHOOK_SUFFIX};

/// A Service, by namespace and name.
pub type Backend = (String, String);

/// The Service that a webhook calls, if it calls one.
pub fn backend(client: &WebhookClientConfig) -> Option<Backend> {
    let service = client.service.as_ref()?;
    Some((service.namespace.clone(), service.name.clone()))
}

/// Whether a webhook calls a control plane of the mesh in `namespace`. One that is called by address may be of any.
pub fn leads_to(client: &WebhookClientConfig, namespace: &str) -> bool {
    client
        .service
        .as_ref()
        .is_none_or(|service| service.namespace == namespace)
}

/// The configuration with our bundle in its injector webhooks; `None` if it is not ours or holds it already.
pub fn with_bundle(
    held: &MutatingWebhookConfiguration,
    revision: &str,
    namespace: &str,
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
        .filter(|webhook| webhook.name.ends_with(WEBHOOK_SUFFIX) && leads_to(&webhook.client_config, namespace));
    ours.for_each(|webhook| webhook.client_config.ca_bundle = Some(ByteString(bundle.to_vec())));
    (next != *held).then_some(next)
}

/// When the validator's webhooks of a Service may refuse what they cannot check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It answers: fail closed.
    Close,
    /// Nobody is behind it: let everything through.
    Open,
    /// Neither is known.
    Keep,
}

/// The configuration with `bundle`, if it is ours, and with the policy that each webhook's Service allows; `None` if
/// nothing changes.
pub fn with_policy(
    held: &ValidatingWebhookConfiguration,
    bundle: Option<&[u8]>,
    policy: impl Fn(Option<&Backend>) -> Policy,
) -> Option<ValidatingWebhookConfiguration> {
    let mut next = held.clone();
    for webhook in next.webhooks.iter_mut().flatten() {
        if let Some(bundle) = bundle {
            webhook.client_config.ca_bundle = Some(ByteString(bundle.to_vec()));
        }
        match policy(backend(&webhook.client_config).as_ref()) {
            Policy::Close => webhook.failure_policy = Some("Fail".to_owned()),
            Policy::Open => webhook.failure_policy = Some("Ignore".to_owned()),
            Policy::Keep => {}
        }
    }
    (next != *held).then_some(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn injector(revision: &str) -> MutatingWebhookConfiguration {
        let client = serde_json::json!({ "service": { "namespace": "istio-system", "name": "istiod" } });
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "w", "labels": { "istio.io/rev": revision } },
            "webhooks": [
                { "name": "rev.namespace.sidecar-injector.istio.io", "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"] },
                { "name": "other.example.com", "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"] },
            ],
        }))
        .unwrap()
    }

    #[test]
    fn only_own_injector_webhooks_get_the_bundle_and_only_once() {
        let next = with_bundle(&injector("canary"), "canary", "istio-system", b"pem").unwrap();
        let bundles: Vec<bool> = next
            .webhooks
            .iter()
            .flatten()
            .map(|w| w.client_config.ca_bundle.is_some())
            .collect();
        assert_eq!(bundles, [true, false]);
        let nothing = |held: &_, namespace: &str, why: &str| {
            assert_eq!(with_bundle(held, "canary", namespace, b"pem"), None, "{why}");
        };
        nothing(&next, "istio-system", "nothing to do");
        nothing(&injector("stable"), "istio-system", "another revision's");
        nothing(&injector("canary"), "mesh-b", "of another mesh");
    }

    #[test]
    fn the_policy_follows_the_service() {
        let held: ValidatingWebhookConfiguration = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "v" },
            "webhooks": [{
                "name": "rev.validation.istio.io", "failurePolicy": "Fail", "sideEffects": "None",
                "clientConfig": { "service": { "namespace": "istio-system", "name": "istiod" } },
                "admissionReviewVersions": ["v1"],
            }],
        }))
        .unwrap();
        let check = |policy, expected: Option<&str>| {
            let next = with_policy(&held, None, |backend| {
                assert_eq!(backend.map(|(_, name)| name.as_str()), Some("istiod"));
                policy
            });
            let found = next.and_then(|next| next.webhooks?.remove(0).failure_policy);
            assert_eq!(found.as_deref(), expected);
        };
        check(Policy::Open, Some("Ignore"));
        check(Policy::Close, None);
        check(Policy::Keep, None);
    }
}
