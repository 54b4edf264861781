//! Is somebody behind the Services that webhooks call?
//!
//! A webhook that fails closed and whose Service has no ready endpoint stops what it selects: pods, or Istio's
//! configuration. That is looked at all the time, counted (`istiod_webhook_without_endpoints`) and told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::Instant;

use super::fields::Backend;

/// Time between two looks.
pub const CHECK: Duration = Duration::from_secs(30);
/// A Service without endpoints for this long is taken as abandoned.
const ABANDONED: Duration = Duration::from_secs(60);
/// How long the API may take to tell of one Service.
const DEADLINE: Duration = Duration::from_secs(5);

/// A webhook that nobody answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Kind of the configuration.
    pub kind: &'static str,
    /// Its name.
    pub configuration: String,
    /// Name of the webhook in it.
    pub webhook: String,
    /// Namespace and name of the Service.
    pub service: String,
    /// Whether what it selects is refused meanwhile.
    pub fails_closed: bool,
}

/// What is known of the Services.
#[derive(Debug, Default)]
pub struct Backends {
    /// Since when each has no ready endpoint; `None` if it has one.
    missing: BTreeMap<Backend, Option<Instant>>,
}

impl Backends {
    /// Whether a ready endpoint is known to be missing.
    pub fn is_missing(&self, backend: &Backend) -> bool {
        self.missing.get(backend).is_some_and(Option::is_some)
    }

    /// Whether it was missing at the last look as well: one that just starts needs no warning.
    pub fn is_missing_still(&self, backend: &Backend, now: Instant) -> bool {
        let since = self.missing.get(backend).copied().flatten();
        since.is_some_and(|since| now.duration_since(since) >= CHECK / 2)
    }

    /// Whether it has been missing for so long that nobody will come back soon.
    pub fn is_abandoned(&self, backend: &Backend, now: Instant) -> bool {
        let since = self.missing.get(backend).copied().flatten();
        since.is_some_and(|since| now.duration_since(since) >= ABANDONED)
    }

    /// Asks about these Services and forgets others. What cannot be learned stays as it was known.
    pub async fn look(&mut self, client: &Client, wanted: BTreeSet<Backend>) {
        self.missing.retain(|backend, _| wanted.contains(backend));
        let looks = wanted
            .iter()
            .map(|backend| tokio::time::timeout(DEADLINE, is_ready(client, backend)));
        let looks = futures::future::join_all(looks).await;
        for (backend, looked) in wanted.into_iter().zip(looks) {
            match looked {
                Ok(Ok(ready)) => self.learn(backend, ready, Instant::now()),
                Ok(Err(error)) => tracing::warn!(service = backend.1, %error, "endpoints not read"),
                Err(_) => tracing::warn!(service = backend.1, "endpoints not read in time"),
            }
        }
    }

    fn learn(&mut self, backend: Backend, ready: bool, now: Instant) {
        let since = self.missing.entry(backend).or_insert(None);
        *since = (!ready).then(|| since.unwrap_or(now));
    }
}

async fn is_ready(client: &Client, (namespace, name): &Backend) -> Result<bool, kube::Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    Ok(api.list(&of_service).await?.iter().any(has_ready_endpoint))
}

fn has_ready_endpoint(slice: &EndpointSlice) -> bool {
    // Unknown counts as ready, as for kube-proxy.
    let ready = |conditions: Option<&EndpointConditions>| conditions.and_then(|c| c.ready).unwrap_or(true);
    let mut endpoints = slice.endpoints.iter();
    endpoints.any(|e| !e.addresses.is_empty() && ready(e.conditions.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_counts_from_its_first_sight_until_somebody_is_back() {
        let (mut backends, start) = (Backends::default(), Instant::now());
        let service = ("istio-system".to_owned(), "istiod".to_owned());
        let check = |backends: &Backends, at: u64, missing: bool, abandoned: bool| {
            let now = start + Duration::from_secs(at);
            assert_eq!(
                (backends.is_missing(&service), backends.is_abandoned(&service, now)),
                (missing, abandoned),
                "at {at}"
            );
        };
        check(&backends, 600, false, false);
        backends.learn(service.clone(), false, start);
        check(&backends, 59, true, false);
        backends.learn(service.clone(), false, start + Duration::from_secs(30));
        check(&backends, 60, true, true);
        backends.learn(service.clone(), true, start + Duration::from_secs(61));
        check(&backends, 600, false, false);
    }

    #[test]
    fn endpoints_are_ready_unless_they_say_no() {
        let check = |endpoints: serde_json::Value, expected| {
            let slice = serde_json::json!({ "addressType": "IPv4", "endpoints": endpoints });
            let slice: Option<EndpointSlice> = serde_json::from_value(slice).ok();
            assert_eq!(slice.as_ref().map(has_ready_endpoint), Some(expected));
        };
        check(serde_json::json!([]), false);
        check(
            serde_json::json!([{ "addresses": ["10.0.0.1"], "conditions": { "ready": false } }]),
            false,
        );
        check(serde_json::json!([{ "addresses": ["10.0.0.1"] }]), true);
    }
}
