//! One stream of Envoy's, from open to end.
//!
//! Envoy must not notice more of istiod's absence than it has to. Until istiod has answered, nothing is lost by trying
//! again with the requests that Envoy has sent so far, so Envoy's stream stays open. Once it has answered, a new istiod
//! does not know what Envoy holds; then Envoy's stream is kept until istiod is back, and ended so that Envoy subscribes
//! afresh, at once, instead of retrying into the void with a growing back-off.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::codec::Raw;
use super::names::{self, Protocol};
use super::peek;
use super::server::{Shared, max_message};
use crate::backoff::Backoff;

/// Requests that Envoy may send before istiod answers. It sends one per type, and an acknowledgement per answer.
const MAX_WAITING: usize = 1024;

/// State of the connection to istiod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// A stream is open and istiod has answered on it.
    pub connected: bool,
    /// Why not, in words; empty before the first attempt.
    pub problem: String,
    /// Streams opened so far.
    pub connections: u64,
}

impl Shared {
    /// Notes that istiod is not connected. The same problem again is not worth a line in the log.
    fn lost(&self, problem: String) {
        let news = self.health.send_if_modified(|health| {
            let news = health.connected || health.problem != problem;
            health.connected = false;
            health.problem.clone_from(&problem);
            news
        });
        if news {
            tracing::warn!(%problem, "istiod is not connected; trying again");
        } else {
            tracing::debug!(%problem, "istiod is still not connected");
        }
    }
}

/// How a stream towards istiod ended.
enum End {
    /// Envoy is gone or has a newer stream: nothing more to do.
    Envoy,
    /// istiod is gone.
    Istiod(Status),
}

pub(super) async fn carry(
    shared: Arc<Shared>,
    path: PathAndQuery,
    mut from_envoy: Streaming<Bytes>,
    to_envoy: mpsc::Sender<Result<Bytes, Status>>,
    cancel: CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut stream = Attempt {
        shared: &shared,
        path,
        to_envoy: &to_envoy,
        waiting: Vec::new(),
        answered: false,
    };
    loop {
        let end = tokio::select! {
            end = stream.attempt(&mut from_envoy, &mut backoff) => end,
            () = cancel.cancelled() => End::Envoy,
            () = to_envoy.closed() => End::Envoy,
        };
        let End::Istiod(status) = end else { break };
        shared.lost(format!("{:?}: {}", status.code(), status.message()));
        if stream.answered {
            tokio::select! {
                () = until_back(&shared, &mut from_envoy) => {}
                () = cancel.cancelled() => break,
                () = to_envoy.closed() => break,
            }
            let again = Status::new(
                Code::Unavailable,
                "the connection to istiod was lost and is back; subscribe again",
            );
            let _ = to_envoy.send(Err(again)).await;
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            () = cancel.cancelled() => break,
            () = to_envoy.closed() => break,
        }
    }
}

struct Attempt<'a> {
    shared: &'a Shared,
    path: PathAndQuery,
    to_envoy: &'a mpsc::Sender<Result<Bytes, Status>>,
    /// What Envoy has sent and istiod has not answered.
    waiting: Vec<Bytes>,
    answered: bool,
}

impl Attempt<'_> {
    async fn attempt(&mut self, from_envoy: &mut Streaming<Bytes>, backoff: &mut Backoff) -> End {
        let channel = match self.connect_while_listening(from_envoy).await {
            Ok(channel) => channel,
            Err(end) => return end,
        };
        let (to_istiod, requests) = mpsc::channel(2 * MAX_WAITING);
        let mut outgoing = Outgoing {
            to_istiod,
            own: self
                .shared
                .names
                .as_ref()
                .map(|_| Protocol::of(self.path.path()).subscribe()),
        };
        for request in &self.waiting {
            if let Err(end) = outgoing.send(request.clone()) {
                return end;
            }
        }
        let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(max_message());
        if let Err(error) = client.ready().await {
            return End::Istiod(Status::unavailable(crate::control_plane::causes(&error)));
        }
        let mut request = tonic::Request::new(ReceiverStream::new(requests));
        *request.metadata_mut() = self.shared.istiod.metadata().await;
        let path = self.path.clone();
        let call = client.streaming(request, path, Raw);
        tokio::pin!(call);
        let mut answers: Option<Streaming<Bytes>> = None;
        let mut roots = self.shared.roots.clone();
        roots.mark_unchanged();
        loop {
            tokio::select! {
                response = &mut call, if answers.is_none() => match response {
                    Ok(response) => answers = Some(response.into_inner()),
                    Err(status) => return End::Istiod(status),
                },
                answer = next(&mut answers), if answers.is_some() => match answer {
                    Ok(Some(message)) => {
                        backoff.reset();
                        match self.name_table(&message) {
                            Some(acknowledgement) => {
                                if let Err(end) = outgoing.send(acknowledgement) {
                                    return end;
                                }
                            }
                            None => self.answer(message).await,
                        }
                    }
                    Ok(None) => return End::Istiod(Status::unavailable("istiod ended the stream")),
                    Err(status) => return End::Istiod(status),
                },
                request = from_envoy.message() => match request {
                    Ok(Some(message)) => {
                        if !self.answered {
                            self.waiting.push(message.clone());
                        }
                        if self.waiting.len() > MAX_WAITING {
                            return End::Istiod(Status::resource_exhausted("too many requests of Envoy are waiting"));
                        }
                        if let Err(end) = outgoing.send(message) {
                            return end;
                        }
                    }
                    Ok(None) | Err(_) => return End::Envoy,
                },
                Ok(()) = roots.changed() => {
                    return End::Istiod(Status::unavailable("the mesh's roots changed; connecting again"));
                }
            }
        }
    }

    /// Envoy may send while we connect; what it sends waits.
    async fn connect_while_listening(&mut self, from_envoy: &mut Streaming<Bytes>) -> Result<Channel, End> {
        let workload = self.shared.workload.borrow().clone();
        let connect = self.shared.istiod.connect(workload.as_deref());
        tokio::pin!(connect);
        loop {
            tokio::select! {
                channel = &mut connect => {
                    return channel.map_err(|e| End::Istiod(Status::unavailable(e.to_string())));
                }
                request = from_envoy.message() => match request {
                    Ok(Some(message)) if self.waiting.len() < MAX_WAITING => self.waiting.push(message),
                    Ok(Some(_)) => return Err(End::Istiod(Status::resource_exhausted("too many requests of Envoy"))),
                    Ok(None) | Err(_) => return Err(End::Envoy),
                },
            }
        }
    }

    /// Takes a name table out of the stream; answers with its acknowledgement.
    fn name_table(&self, message: &Bytes) -> Option<Bytes> {
        let names = self.shared.names.as_ref()?;
        if peek::type_url(message) != Some(names::TYPE) {
            return None;
        }
        match Protocol::of(self.path.path()).read(message) {
            Ok((table, acknowledgement)) => {
                if let Some(table) = table {
                    names.send_replace(Some(Arc::new(table)));
                }
                Some(acknowledgement)
            }
            Err(error) => {
                // Not for Envoy, and not acknowledged: istiod sees that it was not taken.
                tracing::warn!(%error, "the name table cannot be read");
                Some(Bytes::new())
            }
        }
    }

    async fn answer(&mut self, message: Bytes) {
        if !self.answered {
            self.answered = true;
            self.waiting = Vec::new();
            tracing::info!(istiod = %self.shared.istiod.address, "connected to istiod");
            self.shared.health.send_modify(|h| {
                h.connected = true;
                h.problem.clear();
                h.connections += 1;
            });
        }
        let _ = self.to_envoy.send(Ok(message)).await;
    }
}

/// The way to istiod.
struct Outgoing {
    to_istiod: mpsc::Sender<Bytes>,
    /// The agent's own subscription. It follows Envoy's first request, because that one says who the proxy is.
    own: Option<Bytes>,
}

impl Outgoing {
    fn send(&mut self, message: Bytes) -> Result<(), End> {
        let stuck = |_| End::Istiod(Status::resource_exhausted("istiod does not read the requests"));
        if !message.is_empty() {
            self.to_istiod.try_send(message).map_err(stuck)?;
        }
        match self.own.take() {
            Some(own) => self.to_istiod.try_send(own).map_err(stuck),
            None => Ok(()),
        }
    }
}

async fn next(answers: &mut Option<Streaming<Bytes>>) -> Result<Option<Bytes>, Status> {
    match answers {
        Some(answers) => answers.message().await,
        None => std::future::pending().await,
    }
}

/// Tries until a connection to istiod succeeds. Envoy's acknowledgements are read and dropped meanwhile: it will
/// subscribe afresh.
async fn until_back(shared: &Shared, from_envoy: &mut Streaming<Bytes>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let attempts = async {
        loop {
            tokio::time::sleep(backoff.pause()).await;
            let workload = shared.workload.borrow().clone();
            match shared.istiod.connect(workload.as_deref()).await {
                Ok(_) => return,
                Err(error) => shared.lost(error.to_string()),
            }
        }
    };
    let drain = async { while let Ok(Some(_)) = from_envoy.message().await {} };
    tokio::select! {
        () = attempts => {}
        () = drain => {}
    }
}
