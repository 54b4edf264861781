//! Who is calling: a client certificate of the mesh, or a service-account token that the cluster vouches for
//! (control-plane.md §1.10). Nothing of a request is looked at before this has an answer.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use tonic::metadata::MetadataMap;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::spiffe::SpiffeId;

/// Audience that a token must be made for, unless istiod is told others (`TOKEN_AUDIENCES`).
pub const TOKEN_AUDIENCE: &str = "istio-ca";
/// No token is longer than this, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
/// No more identities than this are read from one certificate.
const MAX_IDENTITIES: usize = 16;

/// A service account, as a token names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Why a token is no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The cluster says that the token is not valid (any more), or not for this audience.
    #[error("the token is refused: {0}")]
    Refused(String),
    /// The cluster could not be asked; the caller may try again.
    #[error("the token cannot be checked now: {0}")]
    Unavailable(String),
}

/// Asks a cluster whose token this is. `cluster` implements it with a Kubernetes `TokenReview`.
#[async_trait]
pub trait TokenReview: Send + Sync {
    /// The service account that `token` belongs to, if it is valid for one of `audiences`. `cluster_id` is the
    /// cluster the caller says it is in (header `ClusterID`), if any.
    async fn review(
        &self,
        token: &str,
        audiences: &[String],
        cluster_id: Option<&str>,
    ) -> Result<ServiceAccount, TokenError>;
}

/// What a caller brought along. Has no `Debug` of the token.
#[derive(Default, Clone)]
pub struct Credentials {
    /// Its certificate chain, already verified by the TLS layer against the mesh's roots.
    pub peer_certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
    /// Content of `authorization: Bearer …`.
    pub token: Option<String>,
    /// Content of `clusterid`.
    pub cluster_id: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("peer_certificate", &self.peer_certificates.is_some())
            .field("token", &self.token.is_some())
            .field("cluster_id", &self.cluster_id)
            .finish()
    }
}

impl Credentials {
    /// From a gRPC request on a connection whose TLS layer is [`crate::tls`].
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        Self::new(request.peer_certs(), request.metadata())
    }

    /// From the connection's certificates and the request's metadata.
    pub fn new(peer_certificates: Option<Arc<Vec<CertificateDer<'static>>>>, metadata: &MetadataMap) -> Self {
        let text = |key: &str| metadata.get(key).and_then(|v| v.to_str().ok());
        let token = text("authorization").and_then(|v| v.strip_prefix("Bearer ").or_else(|| v.strip_prefix("bearer ")));
        let cluster_id = text("clusterid").filter(|v| !v.is_empty());
        Self {
            peer_certificates,
            token: token.map(str::to_owned),
            cluster_id: cluster_id.map(str::to_owned),
        }
    }
}

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A certificate signed by the mesh.
    ClientCertificate,
    /// A service-account token.
    Token,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its identities, at least one.
    pub identities: Vec<SpiffeId>,
    /// How it proved them.
    pub proof: Proof,
}

/// Why nobody is authenticated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// Neither certificate nor token.
    #[error("no credentials: bring a client certificate of this mesh or a service-account token for audience istio-ca")]
    None,
    /// What was brought proves nothing.
    #[error("credentials refused: {0}")]
    Refused(String),
    /// The token could not be checked; try again.
    #[error("{0}")]
    Unavailable(String),
}

impl From<AuthenticationError> for tonic::Status {
    fn from(e: AuthenticationError) -> Self {
        match e {
            AuthenticationError::Unavailable(_) => tonic::Status::unavailable(e.to_string()),
            _ => tonic::Status::unauthenticated(e.to_string()),
        }
    }
}

/// Tries the client certificate first, then the token.
#[derive(Clone)]
pub struct Authenticator {
    trust_domain: String,
    audiences: Vec<String>,
    tokens: Option<Arc<dyn TokenReview>>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("trust_domain", &self.trust_domain)
            .field("audiences", &self.audiences)
            .field("tokens", &self.tokens.is_some())
            .finish()
    }
}

impl Authenticator {
    /// For a mesh with this trust domain. Without `tokens` only certificates count.
    pub fn new(trust_domain: &str, tokens: Option<Arc<dyn TokenReview>>) -> Self {
        Self {
            trust_domain: trust_domain.to_owned(),
            audiences: vec![TOKEN_AUDIENCE.to_owned()],
            tokens,
        }
    }

    /// The same, for tokens made for other audiences.
    #[must_use]
    pub fn with_audiences(mut self, audiences: Vec<String>) -> Self {
        self.audiences = audiences;
        self
    }

    /// Who brought `credentials`.
    ///
    /// # Errors
    /// If there are none, or none that prove an identity.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, AuthenticationError> {
        let mut refused = None;
        if let Some(leaf) = credentials.peer_certificates.as_ref().and_then(|chain| chain.first()) {
            match identities(leaf) {
                Ok(identities) => {
                    return Ok(Caller {
                        identities,
                        proof: Proof::ClientCertificate,
                    });
                }
                Err(why) => refused = Some(why),
            }
        }
        match (&credentials.token, &self.tokens) {
            (Some(token), Some(tokens)) => {
                let identity = self
                    .reviewed(token, tokens.as_ref(), credentials.cluster_id.as_deref())
                    .await?;
                Ok(Caller {
                    identities: vec![identity],
                    proof: Proof::Token,
                })
            }
            _ => Err(refused.map_or(AuthenticationError::None, AuthenticationError::Refused)),
        }
    }

    async fn reviewed(
        &self,
        token: &str,
        tokens: &dyn TokenReview,
        cluster_id: Option<&str>,
    ) -> Result<SpiffeId, AuthenticationError> {
        if token.is_empty() || token.len() > MAX_TOKEN {
            let why = format!("a token of {} bytes; at most {MAX_TOKEN} are read", token.len());
            return Err(AuthenticationError::Refused(why));
        }
        let account = tokens
            .review(token, &self.audiences, cluster_id)
            .await
            .map_err(|e| match e {
                TokenError::Refused(_) => AuthenticationError::Refused(e.to_string()),
                TokenError::Unavailable(_) => AuthenticationError::Unavailable(e.to_string()),
            })?;
        SpiffeId::new(&self.trust_domain, &account.namespace, &account.name)
            .map_err(|e| AuthenticationError::Refused(e.to_string()))
    }
}

/// The SPIFFE identities in a certificate's URI names.
///
/// # Errors
/// If the certificate cannot be read or names no identity.
pub fn identities(certificate: &CertificateDer<'_>) -> Result<Vec<SpiffeId>, String> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|e| format!("the client certificate cannot be read: {e}"))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|e| format!("its names cannot be read: {e}"))?;
    let found: Vec<SpiffeId> = names
        .iter()
        .flat_map(|n| &n.value.general_names)
        .filter_map(|n| match n {
            GeneralName::URI(uri) => uri.parse().ok(),
            _ => None,
        })
        .take(MAX_IDENTITIES)
        .collect();
    if found.is_empty() {
        Err("the client certificate names no SPIFFE identity".to_owned())
    } else {
        Ok(found)
    }
}
