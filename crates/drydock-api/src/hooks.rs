//! The seams of the pipeline: identity, permission, admission, field ownership, virtual resources and streams.
//!
//! Each is a trait object in [`Hooks`], so that a part can be exchanged and the core tested alone.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use http::request::Parts;
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use crate::{
    auth::user::User as UserInfo,
    error::ApiError,
    request::{Options, RequestInfo},
    resource::ResourceInfo,
};

/// Certificates the client presented in the TLS handshake, leaf first. A request extension.
#[derive(Debug, Clone, Default)]
pub struct PeerCertificates(pub Arc<Vec<CertificateDer<'static>>>);

/// What a request asks for: the input to authorization and admission.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// Who asks (after impersonation).
    pub user: UserInfo,
    /// Parsed path: verb, group, version, resource, subresource, namespace, name.
    pub info: RequestInfo,
}

/// What an authorizer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allow,
    /// Not allowed; the text completes the 403 message and may be empty.
    Deny(String),
}

/// Finds out who asks.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The user of a request, `system:anonymous` if it has no credentials at all.
    ///
    /// # Errors
    /// 401 for bad credentials, 403 for impersonation that is not allowed.
    async fn authenticate(&self, parts: &Parts) -> Result<UserInfo, ApiError>;
}

/// Decides whether the user may.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Decides one request.
    async fn authorize(&self, attributes: &Attributes) -> Decision;
}

/// The operation an admission review is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object.
    Update,
    /// A removed object.
    Delete,
    /// exec, attach, portforward, proxy.
    Connect,
}

/// One object on its way to the store, as admission sees it.
#[derive(Debug)]
pub struct AdmissionRequest<'a> {
    /// Who asks for what.
    pub attributes: &'a Attributes,
    /// The resource of the request, in the request's version.
    pub resource: &'a Arc<ResourceInfo>,
    /// Subresource, `None` for the object itself.
    pub subresource: Option<&'a str>,
    /// Create, update, delete or connect.
    pub operation: Operation,
    /// Name; empty for a create whose name is still to be generated.
    pub name: &'a str,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The new object; `None` on delete. For a subresource with its own kind (Scale, Eviction), that body.
    pub object: Option<Value>,
    /// The stored object in the request's version; `None` on create and connect.
    pub old_object: Option<&'a Value>,
    /// `CreateOptions`, `UpdateOptions`, `PatchOptions` or `DeleteOptions` as JSON.
    pub options: Value,
    /// `dryRun=All`.
    pub dry_run: bool,
}

/// Mutating and validating admission.
#[async_trait]
pub trait Admission: Send + Sync {
    /// May change `request.object`; called before defaults and validation. Warnings are appended.
    ///
    /// # Errors
    /// The denial or the failure of a webhook.
    async fn mutate(&self, request: &mut AdmissionRequest<'_>, warnings: &mut Vec<String>) -> Result<(), ApiError>;

    /// Checks the final object; called after validation and before the write.
    ///
    /// # Errors
    /// The denial or the failure of a webhook or policy.
    async fn validate(&self, request: &AdmissionRequest<'_>, warnings: &mut Vec<String>) -> Result<(), ApiError>;
}

/// Who owns which field.
pub trait FieldManager: Send + Sync {
    /// Ownership after a create or update: returns the `metadata.managedFields` that `new` must carry.
    /// `new` has the fields as they will be stored; its own `managedFields` are the client's (may reset ownership).
    fn update(
        &self,
        resource: &ResourceInfo,
        subresource: Option<&str>,
        live: Option<&Value>,
        new: &mut Value,
        manager: &str,
    );

    /// Server-side apply: merges `patch` into `live` (`None`: the object is created) and returns the new object,
    /// `managedFields` included.
    ///
    /// # Errors
    /// 409 with causes for conflicts, 400/422/500 as the real server (observed.md, 3).
    fn apply(
        &self,
        resource: &ResourceInfo,
        subresource: Option<&str>,
        live: Option<&Value>,
        patch: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, ApiError>;
}

/// A resource without storage: reviews, tokens.
#[async_trait]
pub trait VirtualResource: Send + Sync {
    /// Answers a create. `name` is the parent's name for a subresource (`serviceaccounts/token`), else empty.
    ///
    /// # Errors
    /// As the real server.
    async fn create(&self, attributes: &Attributes, object: Value, options: &Options) -> Result<Value, ApiError>;
}

/// Streams to the node: log, exec, attach, portforward, proxy.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Answers a connect request; the whole request is handed over because it may be upgraded.
    ///
    /// # Errors
    /// As the real server (pod not found, container not valid, node not reachable).
    async fn connect(
        &self,
        attributes: &Attributes,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<crate::core::Body>, ApiError>;
}

/// All seams together.
#[derive(Clone)]
pub struct Hooks {
    /// Identity.
    pub authenticator: Arc<dyn Authenticator>,
    /// Permission.
    pub authorizer: Arc<dyn Authorizer>,
    /// Mutating and validating admission.
    pub admission: Arc<dyn Admission>,
    /// Field ownership.
    pub fields: Arc<dyn FieldManager>,
    /// Streams to nodes.
    pub connector: Arc<dyn Connector>,
    /// Virtual resources by `group/resource` or `group/resource/subresource` (group empty for core).
    pub virtuals: BTreeMap<String, Arc<dyn VirtualResource>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("virtuals", &self.virtuals.keys())
            .finish_non_exhaustive()
    }
}

/// Lets everyone do everything and records nothing: the core on its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl AllowAll {
    /// Hooks that allow everything.
    pub fn hooks() -> Hooks {
        Hooks {
            authenticator: Arc::new(Self),
            authorizer: Arc::new(Self),
            admission: Arc::new(Self),
            fields: Arc::new(Self),
            connector: Arc::new(Self),
            virtuals: BTreeMap::new(),
        }
    }
}

#[async_trait]
impl Authenticator for AllowAll {
    async fn authenticate(&self, _: &Parts) -> Result<UserInfo, ApiError> {
        Ok(UserInfo {
            name: "kubernetes-admin".into(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
            ..UserInfo::default()
        })
    }
}

#[async_trait]
impl Authorizer for AllowAll {
    async fn authorize(&self, _: &Attributes) -> Decision {
        Decision::Allow
    }
}

#[async_trait]
impl Admission for AllowAll {
    async fn mutate(&self, _: &mut AdmissionRequest<'_>, _: &mut Vec<String>) -> Result<(), ApiError> {
        Ok(())
    }

    async fn validate(&self, _: &AdmissionRequest<'_>, _: &mut Vec<String>) -> Result<(), ApiError> {
        Ok(())
    }
}

impl FieldManager for AllowAll {
    fn update(&self, _: &ResourceInfo, _: Option<&str>, _: Option<&Value>, _: &mut Value, _: &str) {}

    fn apply(
        &self,
        _: &ResourceInfo,
        _: Option<&str>,
        _: Option<&Value>,
        _: &Value,
        _: &str,
        _: bool,
    ) -> Result<Value, ApiError> {
        Err(ApiError::new(
            415,
            "UnsupportedMediaType",
            "server-side apply needs a field manager",
        ))
    }
}

#[async_trait]
impl Connector for AllowAll {
    async fn connect(
        &self,
        _: &Attributes,
        _: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<crate::core::Body>, ApiError> {
        Err(ApiError::new(503, "ServiceUnavailable", "no node can be reached"))
    }
}
