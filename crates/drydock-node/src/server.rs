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
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const HANDSHAKE: Duration = Duration::from_secs(10);

/// Binds the port; returns its number and the task that serves it.
///
/// # Errors
/// If the port is taken or the client authority cannot be read.
pub(crate) async fn bind(node: Arc<Node>) -> Result<(u16, impl Future<Output = ()>)> {
    let shown = Arc::new(certificate::Shown::first(&node.config)?);
    let roots = tls::authorities(&node.client, &node.config).await?;
    let acceptor = tls::acceptor(roots, shown.clone())?;
    let address = SocketAddr::from(([0, 0, 0, 0], node.config.kubelet_port));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| Error::Network(format!("kubelet port {}: {e}", node.config.kubelet_port)))?;
    let port = listener.local_addr().map_err(|e| Error::Network(e.to_string()))?.port();
    let access = Arc::new(access::Access::new(node.client.clone(), &node.config));
    Ok((port, async move {
        tokio::join!(shown.keep(&node), serve(node.clone(), access, acceptor, listener));
    }))
}

async fn serve(node: Arc<Node>, access: Arc<access::Access>, acceptor: TlsAcceptor, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(node.clone(), access.clone(), acceptor.clone(), stream));
            }
            Err(error) => {
                tracing::debug!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(
    node: Arc<Node>,
    access: Arc<access::Access>,
    acceptor: TlsAcceptor,
    stream: tokio::net::TcpStream,
) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    // The handshake has proven the certificate, if there is one. One that names nobody is no certificate of a user.
    let shown = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
    let user = match shown.map(|c| access::User::of(c)) {
        Some(None) => return,
        Some(user) => user.map(Arc::new),
        None => None,
    };
    let state = routes::State { node, access, user };
    let router = Router::new().fallback(routes::handle).with_state(state);
    let service = hyper_util::service::TowerToHyperService::new(router);
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http1_only();
    let _ = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}
