//! SPDY/3.1, as far as Kubernetes uses it: streams opened by the client, data both ways, pings. No flow control (the
//! Go implementation on the other side has none) and no priorities.

mod command;
mod frame;

pub(super) use command::{remote_command, requested, upgrade};

use bytes::Bytes;
use frame::{Decoder, Encoder, Frame};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

/// Streams a client may have open at once.
const MAX_STREAMS: usize = 512;
/// Pieces of data waiting for a reader, per stream.
const DEPTH: usize = 32;

/// A stream that the client opened.
pub(super) struct Stream<S> {
    pub(super) headers: BTreeMap<String, String>,
    /// What the client sends; ends when the client has sent its last.
    pub(super) input: mpsc::Receiver<Bytes>,
    pub(super) output: Output<S>,
}

/// The server's half of a stream.
pub(super) struct Output<S> {
    id: u32,
    writer: Arc<Writer<S>>,
}

impl<S> Clone for Output<S> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            writer: self.writer.clone(),
        }
    }
}

struct Writer<S> {
    half: AsyncMutex<(WriteHalf<S>, Encoder)>,
    streams: Mutex<BTreeMap<u32, mpsc::Sender<Bytes>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Writer<S> {
    async fn send(&self, make: impl FnOnce(&mut Encoder) -> Vec<u8>) -> std::io::Result<()> {
        let mut half = self.half.lock().await;
        let bytes = make(&mut half.1);
        half.0.write_all(&bytes).await?;
        half.0.flush().await
    }

    fn sender(&self, id: u32) -> Option<mpsc::Sender<Bytes>> {
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    fn close(&self, id: u32) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Output<S> {
    /// Sends data.
    pub(super) async fn send(&self, data: &[u8]) -> std::io::Result<()> {
        for piece in data.chunks(frame::MAX_DATA) {
            self.writer.send(|_| frame::data(self.id, false, piece)).await?;
        }
        Ok(())
    }

    /// Says that nothing more will come.
    pub(super) async fn finish(&self) -> std::io::Result<()> {
        self.writer.send(|_| frame::data(self.id, true, &[])).await
    }

    /// Breaks the stream off in both directions.
    pub(super) async fn reset(&self) {
        self.writer.close(self.id);
        let _ = self.writer.send(|_| frame::reset(self.id)).await;
    }
}

/// Serves a connection: streams come out of the receiver until the client is gone.
pub(super) fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: S) -> mpsc::Receiver<Stream<S>> {
    let (reader, half) = tokio::io::split(io);
    let writer = Arc::new(Writer {
        half: AsyncMutex::new((half, Encoder::new())),
        streams: Mutex::default(),
    });
    let (accepted, streams) = mpsc::channel(DEPTH);
    tokio::spawn(async move {
        let served = read(reader, &writer, &accepted).await;
        tracing::debug!(?served, "spdy connection ended");
        writer.streams.lock().unwrap_or_else(PoisonError::into_inner).clear();
    });
    streams
}

async fn read<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut reader: ReadHalf<S>,
    writer: &Arc<Writer<S>>,
    accepted: &mpsc::Sender<Stream<S>>,
) -> std::io::Result<()> {
    let mut decoder = Decoder::new();
    loop {
        match decoder.next(&mut reader).await? {
            Frame::Open { id, headers, last } => {
                let (sender, input) = mpsc::channel(DEPTH);
                let full = {
                    let mut streams = writer.streams.lock().unwrap_or_else(PoisonError::into_inner);
                    let full = streams.len() >= MAX_STREAMS;
                    if !last && !full {
                        streams.insert(id, sender);
                    }
                    full
                };
                if full {
                    writer.send(|_| frame::reset(id)).await?;
                    continue;
                }
                writer.send(|encoder| encoder.reply(id)).await?;
                let stream = Stream {
                    headers,
                    input,
                    output: Output {
                        id,
                        writer: writer.clone(),
                    },
                };
                if accepted.send(stream).await.is_err() {
                    return Ok(());
                }
            }
            Frame::Data { id, data, last } => {
                if let Some(sender) = writer.sender(id).filter(|_| !data.is_empty()) {
                    // A slow reader slows the whole connection: that is SPDY without flow control.
                    let _ = sender.send(data).await;
                }
                if last {
                    writer.close(id);
                }
            }
            Frame::Reset { id } => writer.close(id),
            Frame::Ping { id } => writer.send(|_| frame::ping(id)).await?,
            Frame::GoAway => return Ok(()),
            Frame::Other => {}
        }
    }
}
