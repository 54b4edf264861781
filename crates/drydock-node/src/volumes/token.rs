//! Service-account tokens, bound to the pod, renewed before they run out.

use crate::error::{Error, Result};
use crate::pod::key;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tokens of one pod, by audience and lifetime.
#[derive(Debug)]
pub(crate) struct Tokens {
    client: Option<Client>,
    kept: Mutex<BTreeMap<(String, i64), Kept>>,
}

struct Client(kube::Client);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

#[derive(Debug, Clone)]
struct Kept {
    token: String,
    renew_at: Instant,
}

impl Tokens {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self {
            client: Some(Client(client)),
            kept: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self {
            client: None,
            kept: Mutex::default(),
        }
    }

    /// The token to show now: the one at hand, or a new one when 80 % of its life (at most a day) is over.
    pub(crate) async fn get(&self, pod: &Pod, audience: Option<&str>, seconds: i64) -> Result<String> {
        let slot = (audience.unwrap_or_default().to_string(), seconds);
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&slot)
            .cloned();
        if let Some(kept) = &kept
            && Instant::now() < kept.renew_at
        {
            return Ok(kept.token.clone());
        }
        match (self.request(pod, audience, seconds).await, kept) {
            (Ok(fresh), _) => {
                let token = fresh.token.clone();
                self.kept
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(slot, fresh);
                Ok(token)
            }
            // The API server is away: the old token is good for a while yet.
            (Err(_), Some(kept)) => Ok(kept.token),
            (Err(error), None) => Err(error),
        }
    }

    async fn request(&self, pod: &Pod, audience: Option<&str>, seconds: i64) -> Result<Kept> {
        let Some(Client(client)) = &self.client else {
            return Err(Error::Pod("no API server to ask for a token".into()));
        };
        let (namespace, name, uid) = key(pod);
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.as_deref())
            .filter(|n| !n.is_empty())
            .unwrap_or("default");
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: audience.map(str::to_string).into_iter().collect(),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(name.into()),
                    uid: Some(uid.into()),
                }),
            },
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .map_err(|e| Error::Pod(format!("failed to fetch token: {e}")))?;
        let status = answer
            .status
            .ok_or_else(|| Error::Pod("failed to fetch token: the answer carries none".into()))?;
        let lifetime = status
            .expiration_timestamp
            .0
            .duration_since(k8s_openapi::jiff::Timestamp::now());
        let lifetime = Duration::try_from(lifetime).unwrap_or_default();
        Ok(Kept {
            token: status.token,
            renew_at: Instant::now() + lifetime.mul_f64(0.8).min(Duration::from_secs(86_400)),
        })
    }
}
