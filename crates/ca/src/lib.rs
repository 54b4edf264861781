//! The certificate authority of the mesh: one root, short-lived workload identities, and who may ask for them.
//!
//! This crate knows no Kubernetes. Where the root is kept (a Secret, a mounted directory) and how a service-account
//! token is checked are the caller's business: it passes file maps in and implements [`TokenReview`].
//!
//! | module | one idea |
//! |---|---|
//! | [`spiffe`] | `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, parsed and printed |
//! | [`authority`] | root or intermediate key with its chain; the layouts of `istio-ca-secret` and `cacerts` |
//! | [`rotation`] | when a self-signed root is renewed, as a pure function of time |
//! | [`issue`] | what is signed: workload leaves for an authenticated identity, serving certificates for DNS names |
//! | [`request`] | the other side: key and certificate request of a workload |
//! | [`authenticate`] | who is calling: client certificate or reviewed token |
//! | [`tls`] | rustls configuration for 15012 and 15017, with certificate and roots that can be swapped |
//! | [`service`] | `istio.v1.auth.IstioCertificateService` over the above |
//!
//! How istiod puts it together:
//!
//! ```no_run
//! # use futures::StreamExt;
//! # async fn example(tokens: std::sync::Arc<dyn ca::TokenReview>) -> Result<(), Box<dyn std::error::Error>> {
//! let now = jiff::Timestamp::now();
//! let authority = ca::Current::new(ca::Authority::self_signed("cluster.local", now)?);
//! let serving = authority.load().serving(&["istiod.istio-system.svc".to_owned()], ca::issue::SERVING_TTL, now)?;
//! let certificate = std::sync::Arc::new(ca::tls::ServingCertificate::new(serving.certified_key()?));
//! let clients = std::sync::Arc::new(ca::tls::MeshClients::new(&authority.load().roots())?);
//! let tls = ca::tls::server_config(certificate, Some(clients));
//! let authenticator = std::sync::Arc::new(ca::Authenticator::new("cluster.local", Some(tokens)));
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:15012").await?;
//! let connections = listen::accept::tls(listener, tls, listen::Limits::default());
//! tonic::transport::Server::builder()
//!     .add_service(ca::service::CertificateService::new(authority, authenticator).into_server())
//!     .serve_with_incoming(connections.map(|accepted| Ok::<_, std::io::Error>(accepted.io)))
//!     .await?;
//! # Ok(()) }
//! ```

pub mod authenticate;
pub mod authority;
pub mod issue;
pub mod request;
pub mod rotation;
pub mod service;
pub mod spiffe;
pub mod tls;

mod clock;
mod pem;

pub use authenticate::{
    AuthenticationError, Authenticator, Caller, Credentials, ServiceAccount, TokenError, TokenReview,
};
pub use authority::{Authority, AuthorityError, Current};
pub use issue::{IssueError, Issued};
pub use spiffe::SpiffeId;
