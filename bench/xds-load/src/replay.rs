//! The floor: recorded answers to every stream from shared bytes, nothing computed and nothing copied per stream.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Frame;
use prost::Message;
use tokio::net::TcpSocket;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use tonic::transport::server::TcpIncoming;
use tonic::{Status, Streaming};

use crate::wire::{RawResponse, Request, Resource};

/// Resources are sent in messages of about this size, in bytes.
const PIECE: usize = 64 << 10;

struct Recorded {
    by_name: HashMap<String, Bytes>,
    all: Vec<Bytes>,
}

/// Encoded, framed messages that answer one subscription.
type Framed = Arc<Vec<Bytes>>;

struct Recording {
    types: HashMap<String, Recorded>,
    framed: Mutex<BTreeMap<(String, Vec<String>), Framed>>,
}

impl Recording {
    fn read(folder: &Path) -> Result<Self> {
        let mut types = HashMap::new();
        for entry in std::fs::read_dir(folder).with_context(|| format!("no recording in {}", folder.display()))? {
            let bytes = std::fs::read(entry?.path())?;
            let response = RawResponse::decode(Bytes::from(bytes)).context("a file of the recording is damaged")?;
            let named = response.resources.iter().filter_map(|r| {
                Some((
                    String::from_utf8(Resource::decode(r.clone()).ok()?.name.into()).ok()?,
                    r.clone(),
                ))
            });
            types.insert(
                response.type_url.clone(),
                Recorded {
                    by_name: named.collect(),
                    all: response.resources.clone(),
                },
            );
        }
        Ok(Self {
            types,
            framed: Mutex::default(),
        })
    }

    fn answer(&self, type_url: &str, names: Vec<String>) -> Option<Framed> {
        let recorded = self.types.get(type_url)?;
        let mut framed = self.framed.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (type_url.to_owned(), names);
        if let Some(answer) = framed.get(&key) {
            return Some(Arc::clone(answer));
        }
        let resources: Vec<Bytes> = match key.1.as_slice() {
            [] => recorded.all.clone(),
            names => names
                .iter()
                .filter_map(|name| recorded.by_name.get(name).cloned())
                .collect(),
        };
        let answer = Arc::new(pieces(type_url, &resources));
        framed.insert(key, Arc::clone(&answer));
        Some(answer)
    }
}

fn pieces(type_url: &str, resources: &[Bytes]) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let mut rest = resources;
    while !rest.is_empty() {
        let mut size = 0;
        let fits = rest.iter().take_while(|r| {
            size += r.len();
            size <= PIECE
        });
        let (piece, after) = rest.split_at(fits.count().max(1));
        let response = RawResponse {
            resources: piece.to_vec(),
            type_url: type_url.to_owned(),
            nonce: "recorded".to_owned(),
        };
        let mut message = BytesMut::with_capacity(response.encoded_len() + 5);
        message.put_u8(0);
        message.put_u32(u32::try_from(response.encoded_len()).unwrap_or(u32::MAX));
        message.put_slice(&response.encode_to_vec());
        messages.push(message.freeze());
        rest = after;
    }
    messages
}

/// Takes requests off the wire without decoding them.
struct Raw;

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(2048, 32 << 10)
    }
}

#[derive(Clone)]
struct Service(Arc<Recording>);

impl tonic::server::NamedService for Service {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (sender, frames) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
        let recording = Arc::clone(&self.0);
        let mut requests = Streaming::new_request(Raw, request.into_body(), None, None);
        tokio::spawn(async move {
            while let Some(Ok(bytes)) = requests.next().await {
                let Ok(request) = Request::decode(bytes) else { return };
                // An acknowledgement asks for nothing.
                if !request.nonce.is_empty() {
                    continue;
                }
                let Some(answer) = recording.answer(&request.type_url, request.subscribe) else {
                    continue;
                };
                for message in answer.iter() {
                    if sender.send(Ok(Frame::data(message.clone()))).await.is_err() {
                        return;
                    }
                }
            }
        });
        let body = Body::new(http_body_util::StreamBody::new(ReceiverStream::new(frames)));
        let mut response = http::Response::new(body);
        response
            .headers_mut()
            .insert("content-type", http::HeaderValue::from_static("application/grpc"));
        std::future::ready(Ok(response))
    }
}

/// Connections that wait to be accepted, as many as the control plane's: who is turned away tries again a second later.
const BACKLOG: u32 = 4096;

/// Serves a recording until the process ends.
pub async fn serve(folder: &Path, listen: SocketAddr) -> Result<()> {
    let service = Service(Arc::new(Recording::read(folder)?));
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen).with_context(|| format!("cannot open {listen}"))?;
    let incoming = TcpIncoming::from(socket.listen(BACKLOG)?).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(incoming)
        .await
        .context("cannot serve the recording")
}
