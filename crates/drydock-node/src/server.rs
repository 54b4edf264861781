//! The kubelet's HTTPS port: what the API server asks a node for on behalf of `kubectl logs`, `exec`, `attach` and
//! `port-forward`.
//!
//! Both ways of carrying streams are spoken: WebSocket, and SPDY/3.1 (a real API server dials nodes with it).

mod access;
mod attach;
mod certificate;
mod exec;
mod logs;
mod port_forward;
mod remote;
mod routes;
mod spdy;
mod tls;
mod websocket;

pub(crate) use logs::last_words;

use crate::agent::Node;
use crate::error::{Error, Result};
use axum::Router;
use futures::StreamExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use listen::Limits;
use listen::accept::Accepted;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

/// Binds the port; returns its number and the task that serves it.
///
/// # Errors
/// If the port is taken or the client authority cannot be read.
pub(crate) async fn bind(node: Arc<Node>) -> Result<(u16, impl Future<Output = ()>)> {
    let shown = Arc::new(certificate::Shown::first(&node.config)?);
    let roots = tls::authorities(&node.client, &node.config).await?;
    let tls = tls::config(roots, shown.clone())?;
    let address = SocketAddr::from(([0, 0, 0, 0], node.config.kubelet_port));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| Error::Network(format!("kubelet port {}: {e}", node.config.kubelet_port)))?;
    let port = listener.local_addr().map_err(|e| Error::Network(e.to_string()))?.port();
    let access = Arc::new(access::Access::new(node.client.clone(), &node.config));
    Ok((port, async move {
        tokio::join!(shown.keep(&node), serve(node.clone(), access, tls, listener));
    }))
}

async fn serve(node: Arc<Node>, access: Arc<access::Access>, tls: Arc<ServerConfig>, listener: TcpListener) {
    let limits = Limits::default();
    let mut connections = std::pin::pin!(listen::accept::tls(listener, tls, limits));
    while let Some(accepted) = connections.next().await {
        tokio::spawn(connection(node.clone(), access.clone(), limits, accepted));
    }
}

async fn connection(
    node: Arc<Node>,
    access: Arc<access::Access>,
    limits: Limits,
    accepted: Accepted<TlsStream<TcpStream>>,
) {
    let Accepted { io, place: _place, .. } = accepted;
    // The handshake has proven the certificate, if there is one. One that names nobody is no certificate of a user.
    let shown = io.get_ref().1.peer_certificates().and_then(|c| c.first());
    let user = match shown.map(|c| access::User::of(c)) {
        Some(None) => return,
        Some(user) => user.map(Arc::new),
        None => None,
    };
    let state = routes::State { node, access, user };
    let router = Router::new().fallback(routes::handle).with_state(state);
    let service = hyper_util::service::TowerToHyperService::new(router);
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout);
    let _ = builder
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await;
}
