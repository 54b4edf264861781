//! Ports 8080 and 15014: readiness, metrics, version, debug pages (control-plane.md §1.17).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ads::Registry;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ca::Authenticator;
use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use crate::debug::{self, Debug};
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::source::Translation;
use crate::version;

/// What the pages read.
pub struct Pages {
    /// The mesh and its views.
    pub engine: Arc<Engine<Translation>>,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// Who may ask.
    pub debug: Debug,
    /// Whether there are debug pages.
    pub debug_pages: bool,
    /// Who is who, for callers that are not on loopback.
    pub authenticator: Option<Arc<Authenticator>>,
    /// Numbers.
    pub metrics: Metrics,
    /// Whether the injector has its configuration, or is not wanted.
    pub injector_ready: AtomicBool,
}

/// All pages.
pub fn router(pages: Arc<Pages>) -> Router {
    let debug = if pages.debug_pages {
        debug::pages::router(pages.clone())
    } else {
        Router::new()
    };
    Router::new()
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/version", get(|| async { version::line() }))
        .with_state(pages)
        .merge(debug)
}

/// Serves pages until shutdown.
pub async fn serve(listener: TcpListener, router: Router, mut shutdown: watch::Receiver<bool>) {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let until = async move {
        let _ = shutdown.wait_for(|ending| *ending).await;
    };
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(until).await {
        tracing::error!(%error, "HTTP server ended");
    }
}

/// Readiness alone, for ports that are reachable by everybody.
pub fn readiness(pages: Arc<Pages>) -> Router {
    Router::new().route("/ready", get(ready)).with_state(pages)
}

/// Serves pages over TLS until shutdown.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    let Ok(address) = listener.local_addr() else { return };
    let connections = Box::pin(ca::accept::incoming(listener, tls, ca::accept::Limits::default()));
    let until = async move {
        let _ = shutdown.wait_for(|ending| *ending).await;
    };
    if let Err(error) = axum::serve(Tls { connections, address }, router)
        .with_graceful_shutdown(until)
        .await
    {
        tracing::error!(%error, "HTTPS server ended");
    }
}

/// Accepted TLS connections, as axum wants them.
struct Tls<S> {
    connections: S,
    address: SocketAddr,
}

impl<S> axum::serve::Listener for Tls<S>
where
    S: futures::Stream<Item = std::io::Result<TlsStream<TcpStream>>> + Unpin + Send + 'static,
{
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            match self.connections.next().await {
                Some(Ok(connection)) => {
                    let peer = connection.get_ref().0.peer_addr().unwrap_or(self.address);
                    return (connection, peer);
                }
                Some(Err(error)) => tracing::info!(%error, "TLS connection not accepted"),
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    if !pages.engine.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the cluster has not been read yet").into_response();
    }
    if !pages.injector_ready.load(Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the injector has no configuration yet").into_response();
    }
    StatusCode::OK.into_response()
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    let text = pages.metrics.render(&pages.engine, &pages.registry);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
