//! Port-forward: connections into a pod's network, from its own loopback.

use super::routes::{Query, problem};
use super::spdy::{self, Stream};
use crate::error::{Error, Result};
use crate::net;
use crate::pod::Site;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::{SinkExt, StreamExt};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const PROTOCOL: &str = "portforward.k8s.io";
/// SPDY frames inside of WebSocket messages: what kubectl speaks since 1.31.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// The older way: two channels per port, the first message of each is the port's number.
const CHANNELS: [&str; 2] = ["v4.channel.k8s.io", "portforward.k8s.io"];
const CONNECT: Duration = Duration::from_secs(10);
const PIECE: usize = 32 << 10;
const MAX_PORTS: usize = 64;

/// Answers an upgrade request of any of the three kinds.
pub(super) async fn answer(request: Request, site: Site, query: &Query) -> Response {
    if spdy::requested(request.headers()) {
        return spdy::upgrade(request, &[PROTOCOL], move |io| forward(spdy::serve(io), site));
    }
    let ports: Vec<u16> = [query.all("port"), query.all("ports")]
        .concat()
        .iter()
        .flat_map(|p| p.split(',').map(str::to_string).collect::<Vec<_>>())
        .filter_map(|p| p.parse().ok())
        .take(MAX_PORTS)
        .collect();
    let (mut parts, _) = request.into_parts();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.protocols([TUNNEL, CHANNELS[0], CHANNELS[1]]),
        Err(rejection) => return rejection.into_response(),
    };
    let protocol = upgrade
        .selected_protocol()
        .and_then(|p| p.to_str().ok())
        .unwrap_or_default()
        .to_string();
    if protocol == TUNNEL {
        return upgrade.on_upgrade(move |socket| async move {
            let (near, far) = tokio::io::duplex(256 << 10);
            tokio::join!(tunnel(socket, far), forward(spdy::serve(near), site));
        });
    }
    if ports.is_empty() {
        return problem(StatusCode::BAD_REQUEST, "query parameter \"port\" is required".into());
    }
    upgrade.on_upgrade(move |socket| by_channels(socket, site, ports))
}

/// A connection to the pod's own loopback.
async fn connect(site: &Site, port: u16) -> Result<TcpStream> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let failed =
        move |e: std::io::Error| Error::Network(format!("failed to connect to localhost:{port} inside the pod: {e}"));
    let stream = match &site.sandbox.netns {
        Some(netns) => {
            net::enter(netns, move || {
                std::net::TcpStream::connect_timeout(&address, CONNECT).map_err(failed)
            })
            .await?
        }
        None => return TcpStream::connect(address).await.map_err(failed),
    };
    stream.set_nonblocking(true).map_err(failed)?;
    TcpStream::from_std(stream).map_err(failed)
}

/// Pairs the client's error and data streams by request ID and serves each pair.
async fn forward<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut accepted: mpsc::Receiver<Stream<S>>,
    site: Site,
) {
    let mut waiting: BTreeMap<String, Stream<S>> = BTreeMap::new();
    while let Some(stream) = accepted.recv().await {
        let id = stream.headers.get("requestid").cloned().unwrap_or_default();
        match waiting.remove(&id) {
            Some(other) => {
                let is_error = |s: &Stream<S>| s.headers.get("streamtype").is_some_and(|t| t == "error");
                let (error, data) = if is_error(&stream) {
                    (stream, other)
                } else {
                    (other, stream)
                };
                tokio::spawn(one(site.clone(), error, data));
            }
            None if waiting.len() < MAX_PORTS => drop(waiting.insert(id, stream)),
            None => stream.output.reset().await,
        }
    }
}

async fn one<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(site: Site, error: Stream<S>, mut data: Stream<S>) {
    let port = data.headers.get("port").and_then(|p| p.parse().ok()).unwrap_or(0);
    let target = match connect(&site, port).await {
        Ok(target) => target,
        Err(problem) => {
            let _ = error.output.send(problem.to_string().as_bytes()).await;
            let _ = error.output.finish().await;
            return data.output.reset().await;
        }
    };
    let (mut from_pod, mut to_pod) = target.into_split();
    let output = data.output.clone();
    let up = async {
        while let Some(piece) = data.input.recv().await {
            if to_pod.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to_pod.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; PIECE];
        while let Ok(n @ 1..) = from_pod.read(&mut buffer).await {
            if output.send(&buffer[..n]).await.is_err() {
                return;
            }
        }
        let _ = output.finish().await;
    };
    // When the pod has said everything the stream is over, whatever the client still might send.
    tokio::select! { ((), ()) = async { tokio::join!(up, std::future::pending::<()>()) } => {}, () = down => {} }
    let _ = error.output.finish().await;
}

/// Carries bytes between WebSocket messages and a byte stream.
async fn tunnel(socket: WebSocket, far: tokio::io::DuplexStream) {
    let (mut sink, mut stream) = socket.split();
    let (mut read, mut write) = tokio::io::split(far);
    let inward = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(data) if write.write_all(&data).await.is_ok() => {}
                Message::Binary(_) | Message::Close(_) => break,
                _ => {}
            }
        }
        let _ = write.shutdown().await;
    };
    let outward = async {
        let mut buffer = vec![0; PIECE];
        while let Ok(n @ 1..) = read.read(&mut buffer).await {
            if sink
                .send(Message::Binary(Bytes::copy_from_slice(&buffer[..n])))
                .await
                .is_err()
            {
                break;
            }
        }
        let _ = sink.close().await;
    };
    tokio::select! { () = inward => {}, () = outward => {} }
}

async fn by_channels(socket: WebSocket, site: Site, ports: Vec<u16>) {
    let (mut sink, mut stream) = socket.split();
    let (out, mut messages) = mpsc::channel::<Vec<u8>>(32);
    let mut inputs = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let (input_tx, input) = mpsc::channel::<Bytes>(32);
        inputs.push(input_tx);
        let Ok(data) = u8::try_from(index * 2) else { break };
        for channel in [data, data + 1] {
            let _ = out.send([&[channel], &port.to_le_bytes()[..]].concat()).await;
        }
        tokio::spawn(channel_pair(site.clone(), *port, data, input, out.clone()));
    }
    drop(out);
    let writing = async {
        while let Some(message) = messages.recv().await {
            if sink.send(Message::Binary(message.into())).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
    };
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(data) if !data.is_empty() => {
                    if let Some(input) = inputs.get(usize::from(data[0]) / 2).filter(|_| data[0] % 2 == 0) {
                        let _ = input.send(data.slice(1..)).await;
                    }
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    tokio::select! { () = writing => {}, () = reading => {} }
}

async fn channel_pair(
    site: Site,
    port: u16,
    channel: u8,
    mut input: mpsc::Receiver<Bytes>,
    out: mpsc::Sender<Vec<u8>>,
) {
    let target = match connect(&site, port).await {
        Ok(target) => target,
        Err(error) => return drop(out.send([&[channel + 1], error.to_string().as_bytes()].concat()).await),
    };
    let (mut from_pod, mut to_pod) = target.into_split();
    let up = async {
        while let Some(piece) = input.recv().await {
            if to_pod.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to_pod.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; PIECE];
        while let Ok(n @ 1..) = from_pod.read(&mut buffer).await {
            if out.send([&[channel], &buffer[..n]].concat()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = up => {}, () = down => {} }
}
