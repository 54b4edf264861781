//! Who may ask a node: as kubelet, whoever the API server's own rules allow `nodes/proxy`, `nodes/log` and so on.
//!
//! A caller is known by a client certificate or by a bearer token. Without either it is the anonymous user, whom the
//! rules of a cluster allow nothing.

use crate::config::NodeConfig;
use axum::http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long an answer holds (kubelet's defaults).
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(10);
const REMEMBERED: usize = 1024;
/// Members may do everything, before any rule is looked at (as in the API server).
const MASTERS: &str = "system:masters";
const ANONYMOUS: &str = "system:anonymous";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

impl User {
    /// Common name and organisations of a verified certificate.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let subject = cert.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_string();
        let groups = subject
            .iter_organization()
            .filter_map(|o| o.as_str().ok())
            .map(str::to_string)
            .collect();
        Some(Self { name, groups })
    }

    fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.into(),
            groups: vec!["system:unauthenticated".into()],
        }
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }
}

/// (user and groups, verb, subresource) → the answer, and until when it holds.
type Known = BTreeMap<(String, &'static str, &'static str), (bool, Instant)>;

/// Asks the API server and remembers.
pub(super) struct Access {
    client: kube::Client,
    node: String,
    /// Callers without an identity may do everything.
    open: bool,
    known: Mutex<Known>,
}

impl Access {
    pub(super) fn new(client: kube::Client, config: &NodeConfig) -> Self {
        Self {
            client,
            node: config.name.clone(),
            open: config.allow_anonymous,
            known: Mutex::default(),
        }
    }

    /// Whose request this is: `certificate` is what the connection has proven. `None`: it shows a token that the API
    /// server does not know.
    pub(super) async fn identify(&self, certificate: Option<&User>, headers: &HeaderMap) -> Option<User> {
        if let Some(user) = certificate {
            return Some(user.clone());
        }
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Some(User::anonymous());
        };
        self.review(value.to_str().ok()?.strip_prefix("Bearer ")?).await
    }

    async fn review(&self, token: &str) -> Option<User> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.into()),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let params = PostParams::default();
        let asked = tokio::time::timeout(PATIENCE, api.create(&params, &review)).await;
        let status = asked.ok()?.ok()?.status?;
        let user = status.user.filter(|_| status.authenticated == Some(true))?;
        Some(User {
            name: user.username?,
            groups: user.groups.unwrap_or_default(),
        })
    }

    /// Whether `user` may `verb` the node's `subresource`.
    pub(super) async fn allows(&self, user: &User, verb: &'static str, subresource: &'static str) -> bool {
        if user.groups.iter().any(|g| g == MASTERS) {
            return true;
        }
        if user.is_anonymous() && self.open {
            return true;
        }
        let key = (format!("{user:?}"), verb, subresource);
        let now = Instant::now();
        if let Some((allowed, until)) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && now < *until
        {
            return *allowed;
        }
        let Some(allowed) = self.ask(user, verb, subresource).await else {
            return false;
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, (allowed, now + if allowed { ALLOWED } else { DENIED }));
        allowed
    }

    async fn ask(&self, user: &User, verb: &str, subresource: &str) -> Option<bool> {
        let attributes = ResourceAttributes {
            verb: Some(verb.into()),
            version: Some("v1".into()),
            resource: Some("nodes".into()),
            subresource: Some(subresource.into()),
            name: Some(self.node.clone()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = tokio::time::timeout(PATIENCE, api.create(&PostParams::default(), &review)).await;
        match answer {
            Ok(Ok(review)) => Some(review.status.is_some_and(|s| s.allowed)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "access not decided: refused");
                None
            }
            Err(_) => None,
        }
    }
}
