//! Pages over accepted connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures::{Stream, StreamExt};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::Limits;
use crate::accept::Accepted;
use crate::first::First;

/// Requests open on one connection of HTTP/2 at one time.
const REQUESTS: u32 = 64;
/// Pings find connections of HTTP/2 whose other end is gone.
const PING: Duration = Duration::from_secs(30);
/// How long a ping may stay unanswered.
const PONG: Duration = Duration::from_secs(10);

/// Serves `router` until `shutdown` turns true and what was asked by then is answered. Handlers may extract
/// `ConnectInfo<SocketAddr>`.
pub async fn serve<I>(
    connections: impl Stream<Item = Accepted<I>> + Send,
    router: Router,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tasks = TaskTracker::new();
    let ending = shutdown.clone();
    let mut connections = std::pin::pin!(connections);
    loop {
        let accepted = tokio::select! {
            accepted = connections.next() => accepted,
            _ = shutdown.wait_for(|ending| *ending) => break,
        };
        let Some(accepted) = accepted else { break };
        tasks.spawn(connection(
            accepted,
            router.clone(),
            limits.header_timeout,
            ending.clone(),
        ));
    }
    tasks.close();
    tasks.wait().await;
}

/// Turns true some time after `shutdown` does, or is gone: for a port whose callers take a moment to hear that they shall
/// ask somebody else.
pub fn later(mut shutdown: watch::Receiver<bool>, by: Duration) -> watch::Receiver<bool> {
    let (sender, later) = watch::channel(false);
    tokio::spawn(async move {
        let _ = shutdown.wait_for(|ending| *ending).await;
        tokio::time::sleep(by).await;
        sender.send_replace(true);
    });
    later
}

async fn connection<I>(accepted: Accepted<I>, router: Router, patience: Duration, mut shutdown: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Accepted { io, peer, place } = accepted;
    let first = First::default();
    let seen = first.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        seen.seen();
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(
                router
                    .oneshot(request.map(Body::new))
                    .await
                    .unwrap_or_else(|never| match never {}),
            )
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let ending = async move { drop(shutdown.wait_for(|ending| *ending).await) };
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = first.missing(patience) => return tracing::debug!(%peer, "nothing was asked for in time; closed"),
        () = ending => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            // A client that is still sending its head holds nothing up.
            match tokio::time::timeout(patience, serving).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    drop(place);
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
