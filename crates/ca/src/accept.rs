//! A TLS accept loop with bounds, as `tonic`'s `serve_with_incoming` (or a hyper loop) takes it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Bounds of the accept loop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Handshakes under way at a time; further connections wait in the kernel's queue.
    pub handshakes: usize,
    /// A handshake that takes longer is dropped.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 256,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// Connections of `listener` whose TLS handshake succeeded. Failed handshakes are logged and never end the stream;
/// it ends when the receiver is dropped.
pub fn incoming(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limits: Limits,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> + Send + 'static {
    let (done, ready) = mpsc::channel(limits.handshakes.max(1));
    tokio::spawn(accept(listener, TlsAcceptor::from(config), limits, done));
    futures::stream::unfold(
        ready,
        |mut ready| async move { ready.recv().await.map(|c| (Ok(c), ready)) },
    )
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, limits: Limits, done: mpsc::Sender<TlsStream<TcpStream>>) {
    let slots = Arc::new(Semaphore::new(limits.handshakes.max(1)));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = done.closed() => return,
        };
        let (tcp, peer) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                // Out of descriptors, or reset before accept: wait a moment instead of spinning.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, done) = (tls.clone(), done.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let _ = tcp.set_nodelay(true);
            match tokio::time::timeout(limits.handshake_timeout, tls.accept(tcp)).await {
                Ok(Ok(connection)) => drop(done.send(connection).await),
                Ok(Err(error)) => tracing::info!(%peer, %error, "TLS handshake refused"),
                Err(_) => tracing::info!(%peer, "TLS handshake timed out"),
            }
        });
    }
}
