//! The authenticator and authorizer of the request pipeline.

use super::{
    attributes::{Attributes, Target},
    certificate, impersonate, rbac,
    token::TokenKey,
    user::User,
};
use crate::{
    Core,
    error::ApiError,
    hooks::{self, Authenticator, Authorizer, Decision, PeerCertificates},
    request::RequestInfo,
};
use async_trait::async_trait;
use http::{HeaderMap, header::AUTHORIZATION, request::Parts};
use std::sync::Arc;

/// Longest bearer token that is looked at, bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Identity by client certificate or bearer token, permission by RBAC.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Where roles, bindings and service accounts are stored.
    pub core: Arc<Core>,
    /// The key of service account tokens.
    pub tokens: Arc<TokenKey>,
}

/// Seconds since the epoch.
#[must_use]
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The bearer token of a request; `None` without an `Authorization` header of that kind.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A token sent as a WebSocket subprotocol, the way browsers must.
fn websocket_bearer(headers: &HeaderMap) -> Option<String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    headers
        .get_all("sec-websocket-protocol")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .find_map(|p| p.trim().strip_prefix("base64url.bearer.authorization.k8s.io."))
        .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
}

impl Auth {
    fn identify(&self, parts: &Parts) -> Result<User, ApiError> {
        let certificates = parts.extensions.get::<PeerCertificates>();
        if let Some(user) = certificates
            .and_then(|c| c.0.first())
            .and_then(|leaf| certificate::user_of(leaf))
        {
            return Ok(user);
        }
        let from_protocol = websocket_bearer(&parts.headers);
        match bearer(&parts.headers).or(from_protocol.as_deref()) {
            None if parts.headers.contains_key(AUTHORIZATION) => Err(ApiError::unauthorized()),
            None => Ok(User::anonymous()),
            Some(token) if token.len() > MAX_TOKEN => Err(ApiError::unauthorized()),
            Some(token) => self
                .tokens
                .verify(token, &[], now(), self.core.as_ref())
                .map(|verified| verified.user)
                .map_err(|_| ApiError::unauthorized()),
        }
    }

    fn impersonate(&self, real: User, parts: &Parts) -> Result<User, ApiError> {
        let Some(wanted) = impersonate::requested(&parts.headers)? else {
            return Ok(real);
        };
        let allowed = impersonate::needed(&wanted)
            .iter()
            .all(|attributes| rbac::authorize(self.core.as_ref(), &real, attributes).allowed);
        if allowed {
            return Ok(impersonate::completed(wanted));
        }
        let info = RequestInfo::parse(parts.method.as_str(), parts.uri.path(), parts.uri.query())?;
        let mut attributes = Attributes::of(&info);
        attributes.verb = format!("impersonate-on:user-info:{}", attributes.verb);
        Err(attributes.refusal(&real.name, ""))
    }
}

#[async_trait]
impl Authenticator for Auth {
    async fn authenticate(&self, parts: &Parts) -> Result<User, ApiError> {
        let real = self.identify(parts)?;
        self.impersonate(real, parts)
    }
}

#[async_trait]
impl Authorizer for Auth {
    async fn authorize(&self, attributes: &hooks::Attributes) -> Decision {
        let decision = rbac::authorize(self.core.as_ref(), &attributes.user, &Attributes::of(&attributes.info));
        if decision.allowed {
            Decision::Allow
        } else {
            Decision::Deny(decision.reason)
        }
    }
}

impl Attributes {
    /// What a parsed request wants.
    #[must_use]
    pub fn of(info: &RequestInfo) -> Self {
        let target = if info.is_resource {
            Target::Resource {
                group: info.group.clone(),
                version: info.version.clone(),
                resource: info.resource.clone(),
                subresource: info.subresource.clone(),
                namespace: info.namespace.clone(),
                name: if info.name.is_empty() {
                    info.selected_name.clone()
                } else {
                    info.name.clone()
                },
            }
        } else {
            Target::Path(info.path.clone())
        };
        Attributes {
            verb: info.verb.clone(),
            target,
        }
    }
}
