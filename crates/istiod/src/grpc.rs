//! Ports 15010 and 15012: HTTP/2 connections, who is at their other end, and the services behind them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ads::{Peer, Secrets};
use ca::{Authenticator, Credentials};
use futures::{Stream, StreamExt};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use listen::accept::{self, Accepted};
use listen::first::First;
use listen::together::{Streams, Together};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tower::ServiceExt;

use cluster::access::{Access, AccessError};

/// Reviews of tokens under way at one time; further connections wait their turn.
const REVIEWS: usize = 64;
/// Bytes that wait in one stream for its client to read them, before the next are made.
const SENDING: usize = 64 << 10;
/// Pings keep dead connections from staying.
const PING: Duration = Duration::from_secs(30);
/// How long a ping may stay unanswered. It waits behind everything that the proxy has still to read, and a proxy that is
/// busy with its first configuration must not lose the connection for it and begin again.
const PONG: Duration = Duration::from_secs(30);
/// Path of the discovery service.
const DISCOVERY: &str = "/envoy.service.discovery.v3.";
/// Requests open on one connection at one time: a proxy has one stream, and asks for certificates.
const REQUESTS: u32 = 8;
/// Bytes that arrive on one stream, and on all of a connection, before anybody reads them. Requests are small, and what
/// is sent ahead is memory that a peer takes without being asked who it is.
const RECEIVING: (u32, u32) = (64 << 10, 128 << 10);

/// Serves the routes.
#[derive(Clone)]
pub struct Server {
    /// Discovery, and on the TLS port certificates.
    pub routes: Routes,
    /// Who is who on the TLS port; `None` believes everybody.
    pub gate: Option<Gate>,
    /// Bounds of each port. A connection on which nobody was admitted within the header timeout is closed.
    pub limits: listen::Limits,
    /// Connections are asked to move elsewhere at this age, spread by a tenth.
    pub max_age: Option<Duration>,
    /// Set when the process ends.
    pub shutdown: watch::Receiver<bool>,
}

/// Establishes identities before anything of a request is read.
#[derive(Clone)]
pub struct Gate {
    authenticator: Arc<Authenticator>,
    access: Option<Arc<Access>>,
    turns: Arc<Semaphore>,
}

impl Gate {
    /// By certificates and tokens; `access` says who may read secrets.
    pub fn new(authenticator: Arc<Authenticator>, access: Option<Arc<Access>>) -> Self {
        Self {
            authenticator,
            access,
            turns: Arc::new(Semaphore::new(REVIEWS)),
        }
    }

    /// `streams`: whether the request opens a stream, on which secrets may be asked for.
    async fn admit(&self, address: SocketAddr, credentials: &Credentials, streams: bool) -> Result<Peer, Status> {
        let turn = self
            .turns
            .acquire()
            .await
            .map_err(|_| Status::unavailable("shutting down"))?;
        let caller = self.authenticator.authenticate(credentials).await?;
        let mut secrets = Secrets::None;
        if let (true, Some(access), Some(identity)) = (streams, &self.access, caller.identities.first()) {
            match access
                .may_read_secrets(identity.namespace(), identity.service_account())
                .await
            {
                Ok(true) => secrets = Secrets::Of(identity.namespace().to_owned()),
                Ok(false) => {}
                Err(error @ AccessError::MayNotAsk) => tracing::warn!(%identity, %error, "no secrets are given"),
                Err(error @ AccessError::Unavailable(_)) => secrets = Secrets::Unknown(error.to_string()),
            }
        }
        drop(turn);
        let identities = caller.identities.iter().map(ToString::to_string).collect();
        Ok(Peer {
            address: Some(address),
            identities,
            authenticated: true,
            secrets,
        })
    }
}

impl Server {
    /// Serves plaintext connections until shutdown.
    pub async fn plaintext(self, listener: TcpListener) {
        let connections = accept::tcp(listener, self.limits);
        self.serve(connections).await;
    }

    /// Serves TLS connections until shutdown.
    pub async fn tls(self, listener: TcpListener, config: Arc<rustls::ServerConfig>) {
        let connections = accept::tls(listener, config, self.limits);
        self.serve(connections).await;
    }

    async fn serve<I>(self, connections: impl Stream<Item = Accepted<I>>)
    where
        I: AsyncRead + AsyncWrite + Connected<ConnectInfo: PeerCertificates> + Unpin + Send + 'static,
    {
        let mut connections = std::pin::pin!(connections);
        let mut shutdown = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = connections.next() => accepted,
                _ = shutdown.wait_for(|ending| *ending) => return,
            };
            let Some(accepted) = accepted else { return };
            tokio::spawn(self.clone().connection(accepted));
        }
    }

    async fn connection<I>(self, accepted: Accepted<I>)
    where
        I: AsyncRead + AsyncWrite + Connected<ConnectInfo: PeerCertificates> + Unpin + Send + 'static,
    {
        let Accepted {
            io,
            peer,
            place: _place,
        } = accepted;
        let info = io.connect_info();
        let first = First::default();
        let admitted = first.clone();
        let patience = self.limits.header_timeout;
        let (max_age, mut shutdown) = (self.max_age, self.shutdown.clone());
        let service = hyper::service::service_fn(move |request| {
            self.clone().request(request, info.clone(), peer, admitted.clone())
        });
        let streams = Streams::default();
        let mut builder = hyper::server::conn::http2::Builder::new(streams.clone());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(PING))
            .keep_alive_timeout(PONG);
        builder
            .max_concurrent_streams(REQUESTS)
            .initial_stream_window_size(RECEIVING.0)
            .initial_connection_window_size(RECEIVING.1)
            .max_send_buf_size(SENDING);
        let connection = builder.serve_connection(TokioIo::new(io), service);
        let mut connection = Together::new(connection, streams);
        let age = async {
            match max_age {
                Some(age) => tokio::time::sleep(spread(age, peer)).await,
                None => std::future::pending().await,
            }
        };
        let aside = async {
            tokio::select! {
                () = first.missing(patience) => false,
                () = age => true,
                _ = shutdown.wait_for(|ending| *ending) => true,
            }
        };
        match connection.unless(aside).await {
            Ok(ended) => return log_end(peer, ended),
            Err(false) => return tracing::debug!(%peer, "no request was admitted in time; closed"),
            Err(true) => {}
        }
        // No new requests; open streams get a moment to end, then the proxy connects elsewhere.
        connection.connection().graceful_shutdown();
        if let Ok(ended) = connection.unless(tokio::time::sleep(Duration::from_secs(10))).await {
            log_end(peer, ended);
        }
    }

    async fn request<C: PeerCertificates>(
        self,
        request: http::Request<Incoming>,
        info: C,
        address: SocketAddr,
        admitted: First,
    ) -> Result<http::Response<Body>, Infallible> {
        let (mut parts, body) = request.into_parts();
        let peer = match &self.gate {
            Some(gate) => {
                let metadata = MetadataMap::from_headers(parts.headers.clone());
                let streams = parts.uri.path().starts_with(DISCOVERY);
                gate.admit(address, &Credentials::new(info.certificates(), &metadata), streams)
                    .await
            }
            None => Ok(Peer {
                address: Some(address),
                ..Peer::default()
            }),
        };
        match peer {
            Ok(peer) => {
                admitted.seen();
                parts.extensions.insert(peer)
            }
            Err(status) => {
                tracing::info!(peer = %address, %status, "request refused");
                return Ok(status.into_http());
            }
        };
        parts.extensions.insert(info);
        let request = http::Request::from_parts(parts, Body::new(body));
        self.routes.oneshot(request).await
    }
}

/// Certificates that a connection brought.
pub trait PeerCertificates: Clone + Send + Sync + 'static {
    /// The verified chain, if there is one.
    fn certificates(&self) -> Option<Arc<Vec<rustls::pki_types::CertificateDer<'static>>>>;
}

impl PeerCertificates for tonic::transport::server::TcpConnectInfo {
    fn certificates(&self) -> Option<Arc<Vec<rustls::pki_types::CertificateDer<'static>>>> {
        None
    }
}

impl<T: Clone + Send + Sync + 'static> PeerCertificates for tonic::transport::server::TlsConnectInfo<T> {
    fn certificates(&self) -> Option<Arc<Vec<rustls::pki_types::CertificateDer<'static>>>> {
        self.peer_certs()
    }
}

/// Up to a tenth more, by the peer's port, so that proxies which came together do not leave together.
fn spread(age: Duration, peer: SocketAddr) -> Duration {
    age + age * (u32::from(peer.port()) % 100) / 1000
}

fn log_end(peer: SocketAddr, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

#[cfg(test)]
#[path = "grpc_tests.rs"]
mod tests;
