//! `istio.v1.auth.IstioCertificateService`: the caller's own certificate, and nobody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use tonic::{Request, Response, Status};
use xds::istio::v1::auth::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use xds::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};

use crate::authenticate::{Authenticator, Credentials};
use crate::authority::Current;
use crate::issue::{IssueError, MAX_REQUEST};

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests received.
    pub requests: AtomicU64,
    /// Certificates issued.
    pub issued: AtomicU64,
    /// Callers without an identity.
    pub unauthenticated: AtomicU64,
    /// Requests that cannot be read.
    pub unreadable: AtomicU64,
    /// Certificates that could not be signed.
    pub unsigned: AtomicU64,
}

/// The service; mount [`CertificateService::into_server`] on connections whose TLS layer is [`crate::tls`].
#[derive(Debug, Clone)]
pub struct CertificateService {
    authority: Current,
    authenticator: Arc<Authenticator>,
    counters: Arc<Counters>,
}

impl CertificateService {
    /// Signs with `authority` for those whom `authenticator` knows.
    pub fn new(authority: Current, authenticator: Arc<Authenticator>) -> Self {
        Self {
            authority,
            authenticator,
            counters: Arc::default(),
        }
    }

    /// The same, counting there.
    #[must_use]
    pub fn counting(mut self, counters: Arc<Counters>) -> Self {
        self.counters = counters;
        self
    }

    /// As a tonic service, with the message size bounded.
    pub fn into_server(self) -> IstioCertificateServiceServer<Self> {
        IstioCertificateServiceServer::new(self).max_decoding_message_size(2 * MAX_REQUEST)
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        count(&self.counters.requests);
        let caller = self.authenticator.authenticate(&Credentials::of(&request)).await;
        let caller = caller.inspect_err(|_| count(&self.counters.unauthenticated))?;
        let identity = caller.identities.into_iter().next();
        let identity = identity.ok_or_else(|| Status::unauthenticated("the caller has no identity"))?;
        let asked = request.into_inner();
        let ttl = u64::try_from(asked.validity_duration)
            .ok()
            .filter(|s| *s > 0)
            .map(Duration::from_secs);
        let authority = self.authority.load();
        let signed_for = identity.clone();
        // RSA signing takes a millisecond of CPU: not on the threads that serve streams.
        let issued =
            tokio::task::spawn_blocking(move || authority.issue(&asked.csr, &signed_for, ttl, Timestamp::now()))
                .await
                .map_err(|_| Status::internal("signing was interrupted; try again"))?
                .inspect_err(|error| {
                    count(match error {
                        IssueError::Request(_) => &self.counters.unreadable,
                        _ => &self.counters.unsigned,
                    });
                })
                .map_err(status)?;
        count(&self.counters.issued);
        tracing::info!(%identity, not_after = %issued.not_after, "workload certificate issued");
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: issued.chain,
        }))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

fn status(error: IssueError) -> Status {
    match error {
        IssueError::Request(_) => Status::invalid_argument(error.to_string()),
        _ => Status::internal(error.to_string()),
    }
}
