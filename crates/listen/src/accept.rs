//! Accept loops with bounds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Limits;

/// After an error of the listener, which is out of descriptors most likely.
const BREATH: Duration = Duration::from_millis(50);

/// A connection that was let in.
#[derive(Debug)]
pub struct Accepted<I> {
    /// The connection.
    pub io: I,
    /// Who is at its other end.
    pub peer: SocketAddr,
    /// Its place among [`Limits::connections`], free again when this is dropped.
    pub place: OwnedSemaphorePermit,
}

/// Connections of `listener`. The stream ends when it is dropped.
pub fn tcp(listener: TcpListener, limits: Limits) -> impl Stream<Item = Accepted<TcpStream>> + Send + 'static {
    let (done, ready) = mpsc::channel(1);
    tokio::spawn(accept(listener, limits, done, |tcp| std::future::ready(Ok(tcp))));
    stream(ready)
}

/// Connections of `listener` whose TLS handshake succeeded; failed ones are logged and never end the stream.
pub fn tls(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limits: Limits,
) -> impl Stream<Item = Accepted<TlsStream<TcpStream>>> + Send + 'static {
    let (done, ready) = mpsc::channel(limits.handshakes.max(1));
    let (tls, turns) = (
        TlsAcceptor::from(config),
        Arc::new(Semaphore::new(limits.handshakes.max(1))),
    );
    let handshake = move |tcp| {
        let (tls, turns) = (tls.clone(), turns.clone());
        async move {
            let closed = |_| io::Error::other("the server is ending");
            let _turn = turns.acquire_owned().await.map_err(closed)?;
            let done = tokio::time::timeout(limits.handshake_timeout, tls.accept(tcp)).await;
            done.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake takes too long"))?
        }
    };
    tokio::spawn(accept(listener, limits, done, handshake));
    stream(ready)
}

fn stream<I: Send + 'static>(ready: mpsc::Receiver<Accepted<I>>) -> impl Stream<Item = Accepted<I>> + Send + 'static {
    futures::stream::unfold(
        ready,
        |mut ready| async move { ready.recv().await.map(|one| (one, ready)) },
    )
}

async fn accept<I, F>(
    listener: TcpListener,
    limits: Limits,
    done: mpsc::Sender<Accepted<I>>,
    prepare: impl Fn(TcpStream) -> F,
) where
    I: Send + 'static,
    F: Future<Output = io::Result<I>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.connections.max(1)));
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = done.closed() => return,
        };
        let (tcp, peer) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            // Said once, not per connection: this is what happens under attack.
            if !std::mem::replace(&mut full, true) {
                tracing::warn!(%peer, limit = limits.connections, "too many connections; further ones are closed");
            }
            continue;
        };
        full = false;
        // Small answers must not wait for more; where it cannot be set they are merely slower.
        let _ = tcp.set_nodelay(true);
        let (ready, done) = (prepare(tcp), done.clone());
        tokio::spawn(async move {
            match ready.await {
                Ok(io) => drop(done.send(Accepted { io, peer, place }).await),
                Err(error) => tracing::info!(%peer, %error, "connection refused"),
            }
        });
    }
}
