//! Remote commands over WebSocket: one channel byte in front of each message (`v5.channel.k8s.io`, `v4.channel.k8s.io`).

use super::remote::{Channel, DEPTH, Ending, Remote, Session, size};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Version 5: "this channel is closed", the only way to end stdin without ending the connection.
const CLOSE: u8 = 255;
const MAX_MESSAGE: usize = 1 << 20;
const NORMAL: u16 = 1000;
/// How long the client may take to answer the closing handshake.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(5);

/// Upgrades and carries one command.
pub(super) async fn remote_command<W, F>(request: Request, session: Session, work: W) -> Response
where
    W: FnOnce(Remote) -> F + Send + 'static,
    F: Future<Output = Ending> + Send + 'static,
{
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => {
            let upgrade = upgrade
                .max_message_size(MAX_MESSAGE)
                .protocols(["v5.channel.k8s.io", "v4.channel.k8s.io"]);
            upgrade.on_upgrade(move |socket| carry(socket, session, work))
        }
        Err(rejection) => rejection.into_response(),
    }
}

async fn carry<W, F>(socket: WebSocket, session: Session, work: W)
where
    W: FnOnce(Remote) -> F + Send + 'static,
    F: Future<Output = Ending> + Send + 'static,
{
    let (mut sink, stream) = socket.split();
    let (stdin_tx, stdin) = mpsc::channel(DEPTH);
    let (sizes_tx, sizes) = mpsc::channel(DEPTH);
    let (out, mut from_command) = mpsc::channel::<(Channel, Bytes)>(DEPTH);
    let reader = tokio::spawn(receive(stream, session.stdin.then_some(stdin_tx), sizes_tx));
    let mut command = std::pin::pin!(work(Remote { stdin, sizes, out }));
    let mut reader_done = std::pin::pin!(async { reader.await.ok().flatten() });
    let mut stream = None;
    let mut left = false;
    let ending = loop {
        tokio::select! {
            ending = &mut command => break ending,
            Some((channel, data)) = from_command.recv() => {
                let tag = if channel == Channel::Stderr { STDERR } else { STDOUT };
                left |= sink.send(Message::Binary(tagged(tag, &data))).await.is_err();
            }
            rest = &mut reader_done, if stream.is_none() => {
                left = rest.is_none();
                stream = Some(rest);
            }
        }
        if left {
            // Dropping the receiver tells the command that nobody is there.
            from_command.close();
            break command.await;
        }
    };
    while let Ok((channel, data)) = from_command.try_recv() {
        let tag = if channel == Channel::Stderr { STDERR } else { STDOUT };
        let _ = sink.send(Message::Binary(tagged(tag, &data))).await;
    }
    let status = ending.status().to_string();
    let _ = sink.send(Message::Binary(tagged(ERROR, status.as_bytes()))).await;
    let _ = sink
        .send(Message::Close(Some(CloseFrame {
            code: NORMAL,
            reason: "".into(),
        })))
        .await;
    // Clients report an error if the connection goes before they have answered.
    if stream.is_none() {
        let _ = tokio::time::timeout(GOODBYE, reader_done).await;
    }
}

fn tagged(channel: u8, data: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    message.into()
}

/// Sorts incoming messages; returns when the client has closed the connection (`None`: broken off).
async fn receive(
    mut stream: SplitStream<WebSocket>,
    mut stdin: Option<mpsc::Sender<Bytes>>,
    sizes: mpsc::Sender<(u16, u16)>,
) -> Option<()> {
    while let Some(message) = stream.next().await {
        let data = match message {
            Ok(Message::Binary(data)) => data,
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Close(_)) => return None,
            Ok(_) => continue,
            Err(_) => return None,
        };
        match data.first() {
            Some(&STDIN) => {
                if let Some(to) = &stdin
                    && to.send(data.slice(1..)).await.is_err()
                {
                    stdin = None;
                }
            }
            Some(&RESIZE) => {
                if let Some(size) = size(&data[1..]) {
                    let _ = sizes.try_send(size);
                }
            }
            Some(&CLOSE) if data.get(1) == Some(&STDIN) => stdin = None,
            _ => {}
        }
    }
    None
}
