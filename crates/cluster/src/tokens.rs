//! Whose token is this: `TokenReview`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ca::{ServiceAccount, TokenError, TokenReview};
use k8s_openapi::api::authentication::v1 as authentication;
use kube::api::PostParams;
use kube::{Api, Client};

/// How long an answer is reused. Short, because a deleted account must lose access; long enough that a proxy which
/// asks for a certificate and opens its stream is reviewed once.
const REMEMBER: Duration = Duration::from_secs(10);
/// Answers remembered at one time.
const REMEMBERED: usize = 10_000;
/// How long the API may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks the cluster that the client points at.
pub struct Reviewer {
    client: Client,
    recent: Mutex<HashMap<u64, (Instant, ServiceAccount)>>,
    hasher: std::hash::RandomState,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reviewer")
    }
}

impl Reviewer {
    /// A reviewer over a client that may create token reviews.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            recent: Mutex::default(),
            hasher: std::hash::RandomState::new(),
        }
    }

    fn remembered(&self, key: u64) -> Option<ServiceAccount> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent
            .get(&key)
            .filter(|(at, _)| at.elapsed() < REMEMBER)
            .map(|(_, account)| account.clone())
    }

    fn remember(&self, key: u64, account: &ServiceAccount) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= REMEMBERED {
            recent.retain(|_, (at, _)| at.elapsed() < REMEMBER);
        }
        if recent.len() < REMEMBERED {
            recent.insert(key, (Instant::now(), account.clone()));
        }
    }
}

#[async_trait::async_trait]
impl TokenReview for Reviewer {
    async fn review(&self, token: &str, audiences: &[String], _: Option<&str>) -> Result<ServiceAccount, TokenError> {
        // Keyed by a keyed hash: no token is kept in memory.
        let key = std::hash::BuildHasher::hash_one(&self.hasher, (token, audiences));
        if let Some(account) = self.remembered(key) {
            return Ok(account);
        }
        let review = authentication::TokenReview {
            spec: authentication::TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(audiences.to_vec()),
            },
            ..Default::default()
        };
        let api: Api<authentication::TokenReview> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let answer = tokio::time::timeout(DEADLINE, api.create(&parameters, &review)).await;
        let answer = answer.map_err(|_| TokenError::Unavailable("the API server did not answer in time".to_owned()))?;
        let answer = answer.map_err(|error| TokenError::Unavailable(error.to_string()))?;
        let account = account(&answer.status.unwrap_or_default(), audiences)?;
        self.remember(key, &account);
        Ok(account)
    }
}

/// Reads a review's status: authenticated, for one of the audiences, and a service account.
fn account(status: &authentication::TokenReviewStatus, audiences: &[String]) -> Result<ServiceAccount, TokenError> {
    let refused = |why: &str| Err(TokenError::Refused(why.to_owned()));
    if status.authenticated != Some(true) {
        return refused(status.error.as_deref().unwrap_or("the API server does not know it"));
    }
    // A server that does not know audiences returns none: the token was then not checked against ours.
    let granted = status.audiences.as_deref().unwrap_or_default();
    if !granted.iter().any(|audience| audiences.contains(audience)) {
        return refused("it is meant for another audience");
    }
    let user = status
        .user
        .as_ref()
        .and_then(|user| user.username.as_deref())
        .unwrap_or_default();
    match user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains(':') => {
            Ok(ServiceAccount {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => refused("it is not a service account's"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(authenticated: bool, user: &str, audience: &str, expected: Result<(&str, &str), &str>) {
        let status = authentication::TokenReviewStatus {
            authenticated: Some(authenticated),
            audiences: Some(vec![audience.to_owned()]),
            user: Some(authentication::UserInfo {
                username: Some(user.to_owned()),
                ..Default::default()
            }),
            error: None,
        };
        let found = account(&status, &["istio-ca".to_owned()]);
        match (found, expected) {
            (Ok(found), Ok((namespace, name))) => assert_eq!((&*found.namespace, &*found.name), (namespace, name)),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn only_service_accounts_for_our_audience() {
        check(true, "system:serviceaccount:a:b", "istio-ca", Ok(("a", "b")));
        check(true, "system:serviceaccount:a:b", "other", Err("another audience"));
        check(false, "system:serviceaccount:a:b", "istio-ca", Err("does not know"));
        check(true, "admin", "istio-ca", Err("not a service account"));
        check(
            true,
            "system:serviceaccount:a:b:c",
            "istio-ca",
            Err("not a service account"),
        );
    }
}
