//! May this account read secrets: `SubjectAccessReview`, remembered for a minute (control-plane.md §1.2), and for longer
//! while the API server cannot be asked again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

const REMEMBER: Duration = Duration::from_secs(60);
/// How long an answer stands in for one that cannot be had.
const STAND_IN: Duration = Duration::from_secs(3600);
/// How long the API may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Answers remembered at one time.
const REMEMBERED: usize = 10_000;

/// Answers remembered by (namespace, service account).
type Answers = HashMap<(String, String), (Instant, bool)>;

/// Why nobody knows whether an account may read secrets.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// istiod itself may not ask; asking again does not help.
    #[error(
        "istiod may not create SubjectAccessReviews; grant it `create` on subjectaccessreviews.authorization.k8s.io"
    )]
    MayNotAsk,
    /// The API server gave no answer.
    #[error("the API server was asked and gave no answer: {0}")]
    Unavailable(String),
}

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

    /// What is remembered of the account, if it is younger than `age`.
    fn remembered(&self, key: &(String, String), age: Duration) -> Option<bool> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, allowed) = answers.get(key).filter(|(at, _)| at.elapsed() < age)?;
        Some(*allowed)
    }

    fn remember(&self, key: (String, String), allowed: bool) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= REMEMBERED {
            answers.retain(|_, (at, _)| at.elapsed() < REMEMBER);
        }
        if answers.len() < REMEMBERED || answers.contains_key(&key) {
            answers.insert(key, (Instant::now(), allowed));
        }
    }

    /// Whether the account may list secrets of its own namespace. While the API server does not answer, what it said
    /// within the last hour holds: a gateway that reconnects then keeps its certificates.
    ///
    /// # Errors
    /// [`AccessError`] if there is no answer, neither new nor remembered.
    pub async fn may_read_secrets(&self, namespace: &str, account: &str) -> Result<bool, AccessError> {
        let key = (namespace.to_owned(), account.to_owned());
        if let Some(allowed) = self.remembered(&key, REMEMBER) {
            return Ok(allowed);
        }
        match self.ask(namespace, account).await {
            Ok(allowed) => {
                self.remember(key, allowed);
                Ok(allowed)
            }
            Err(AccessError::MayNotAsk) => Err(AccessError::MayNotAsk),
            Err(error) => self.remembered(&key, STAND_IN).ok_or(error),
        }
    }

    async fn ask(&self, namespace: &str, account: &str) -> Result<bool, AccessError> {
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
        let parameters = PostParams::default();
        match tokio::time::timeout(DEADLINE, api.create(&parameters, &review)).await {
            Ok(Ok(answer)) => Ok(answer.status.is_some_and(|status| status.allowed)),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(AccessError::MayNotAsk),
            Ok(Err(error)) => Err(AccessError::Unavailable(error.to_string())),
            Err(_) => Err(AccessError::Unavailable(format!(
                "none within {} s",
                DEADLINE.as_secs()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http_body_util::Full;
    use serde_json::json;

    use super::*;

    /// What the API server does with a review.
    #[derive(Clone, Copy)]
    enum Server {
        Answers(bool),
        Refuses(u16),
        IsSilent,
    }

    struct Setup {
        server: Arc<Mutex<Server>>,
        access: Access,
    }

    impl Setup {
        fn new(server: Server) -> Self {
            let server = Arc::new(Mutex::new(server));
            let shared = server.clone();
            let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
                let does = *shared.lock().unwrap_or_else(PoisonError::into_inner);
                async move {
                    let (code, body) = match does {
                        Server::Answers(allowed) => (201, json!({ "spec": {}, "status": { "allowed": allowed } })),
                        Server::Refuses(code) => (code, json!({ "kind": "Status", "status": "Failure", "code": code })),
                        Server::IsSilent => std::future::pending().await,
                    };
                    let mut response = http::Response::new(Full::new(bytes::Bytes::from(body.to_string())));
                    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
                    Ok::<_, Infallible>(response)
                }
            });
            let access = Access::new(Client::new(service, "default"));
            Self { server, access }
        }

        /// What is known after `minutes` more, with a server that does so.
        async fn check(&self, minutes: u64, server: Server, expect: &str) {
            tokio::time::advance(Duration::from_secs(60 * minutes)).await;
            *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
            let known = match self.access.may_read_secrets("shop", "gateway").await {
                Ok(true) => "allowed",
                Ok(false) => "denied",
                Err(AccessError::MayNotAsk) => "may not ask",
                Err(AccessError::Unavailable(_)) => "unknown",
            };
            assert_eq!(known, expect);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_while_the_server_gives_none() {
        let setup = Setup::new(Server::IsSilent);
        setup.check(0, Server::IsSilent, "unknown").await;
        setup.check(0, Server::Refuses(429), "unknown").await;
        setup.check(0, Server::Answers(true), "allowed").await;
        setup.check(5, Server::IsSilent, "allowed").await;
        setup.check(5, Server::Refuses(500), "allowed").await;
        setup.check(60, Server::Refuses(500), "unknown").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_answer_replaces_the_old_one() {
        let setup = Setup::new(Server::Answers(true));
        setup.check(0, Server::Answers(true), "allowed").await;
        setup.check(2, Server::Answers(false), "denied").await;
        setup.check(2, Server::Refuses(503), "denied").await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_istiod_that_may_not_ask_gives_nothing() {
        let setup = Setup::new(Server::Refuses(403));
        setup.check(0, Server::Refuses(403), "may not ask").await;
    }
}
