//! May this account read secrets: `SubjectAccessReview`, remembered for a minute (control-plane.md §1.2).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

const REMEMBER: Duration = Duration::from_secs(60);
/// Answers remembered at one time.
const REMEMBERED: usize = 10_000;

/// Answers remembered by (namespace, service account).
type Answers = HashMap<(String, String), (Instant, bool)>;

/// Asks the cluster and remembers.
pub struct Access {
    client: Client,
    answers: Mutex<Answers>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Access")
    }
}

impl Access {
    /// Over a client that may create access reviews.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            answers: Mutex::default(),
        }
    }

    /// Whether the account may list secrets of its own namespace.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn may_read_secrets(&self, namespace: &str, account: &str) -> Result<bool, kube::Error> {
        let key = (namespace.to_owned(), account.to_owned());
        let remembered = {
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers
                .get(&key)
                .filter(|(at, _)| at.elapsed() < REMEMBER)
                .map(|(_, allowed)| *allowed)
        };
        if let Some(allowed) = remembered {
            return Ok(allowed);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.to_owned()),
                    verb: Some("list".to_owned()),
                    resource: Some("secrets".to_owned()),
                    ..Default::default()
                }),
                user: Some(format!("system:serviceaccount:{namespace}:{account}")),
                groups: Some(vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                    "system:authenticated".to_owned(),
                ]),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= REMEMBERED {
            answers.retain(|_, (at, _)| at.elapsed() < REMEMBER);
        }
        if answers.len() < REMEMBERED {
            answers.insert(key, (Instant::now(), allowed));
        }
        Ok(allowed)
    }
}
