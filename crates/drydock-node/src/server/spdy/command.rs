//! Remote commands over SPDY: one stream per channel, told apart by the header `streamtype`.

use super::super::remote::{Channel, DEPTH, Ending, Remote, Session, size};
use super::super::routes::problem;
use super::{Stream, serve};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// How long the client may take to open all its streams (kubelet's default).
const OPENING: Duration = Duration::from_secs(30);
/// Versions of the stream protocol, best first. Version 5 exists for WebSocket only.
const VERSIONS: [&str; 2] = ["v4.channel.k8s.io", "v3.channel.k8s.io"];

/// Whether the client wants SPDY rather than WebSocket.
pub(in super::super) fn requested(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .and_then(|u| u.to_str().ok())
        .is_some_and(|u| u.to_ascii_lowercase().starts_with("spdy/"))
}

/// The 101 answer; `run` gets the connection once the client has it.
pub(in super::super) fn upgrade<F>(
    mut request: Request,
    versions: &[&str],
    run: impl FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let name = "x-stream-protocol-version";
    let offered: Vec<String> = request
        .headers()
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|v| v.trim().to_string())
        .collect();
    let chosen = versions.iter().find(|v| offered.iter().any(|o| o == *v));
    let Some(chosen) = chosen.or_else(|| versions.first().filter(|_| offered.is_empty())) else {
        return problem(
            StatusCode::FORBIDDEN,
            format!("unable to negotiate protocol: client supports {offered:?}, server accepts {versions:?}"),
        );
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(io) = upgraded.await {
            run(TokioIo::new(io)).await;
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header(name, *chosen)
        .body(Body::empty())
        .unwrap_or_else(|e| problem(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

/// Upgrades and carries one command.
pub(in super::super) async fn remote_command<W, F>(request: Request, session: Session, work: W) -> Response
where
    W: FnOnce(Remote) -> F + Send + 'static,
    F: Future<Output = Ending> + Send + 'static,
{
    upgrade(request, &VERSIONS, move |io| carry(serve(io), session, work))
}

async fn carry<S, W, F>(mut accepted: mpsc::Receiver<Stream<S>>, session: Session, work: W)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    W: FnOnce(Remote) -> F + Send + 'static,
    F: Future<Output = Ending> + Send + 'static,
{
    let wanted = 1
        + usize::from(session.stdin)
        + usize::from(session.stdout)
        + usize::from(session.stderr && !session.tty)
        + usize::from(session.tty);
    let mut streams: BTreeMap<String, Stream<S>> = BTreeMap::new();
    let opening = async {
        while streams.len() < wanted {
            let Some(stream) = accepted.recv().await else { return };
            let kind = stream.headers.get("streamtype").cloned().unwrap_or_default();
            streams.insert(kind, stream);
        }
    };
    if tokio::time::timeout(OPENING, opening).await.is_err() || streams.len() < wanted {
        return;
    }
    let Some(error) = streams.remove("error") else { return };
    let closed = mpsc::channel(1).1;
    let stdin = streams.remove("stdin").map_or(closed, |s| s.input);
    let (sizes_tx, sizes) = mpsc::channel(DEPTH);
    if let Some(mut resize) = streams.remove("resize") {
        tokio::spawn(async move {
            while let Some(data) = resize.input.recv().await {
                if let Some(size) = size(&data) {
                    let _ = sizes_tx.try_send(size);
                }
            }
        });
    }
    let outputs = (
        streams.remove("stdout").map(|s| s.output),
        streams.remove("stderr").map(|s| s.output),
    );
    let (out, mut from_command) = mpsc::channel::<(Channel, Bytes)>(DEPTH);
    let sending = async {
        loop {
            tokio::select! {
                message = from_command.recv() => {
                    let Some((channel, data)) = message else { return };
                    let output = if channel == Channel::Stderr { &outputs.1 } else { &outputs.0 };
                    if let Some(output) = output
                        && output.send(&data).await.is_err() {
                            break;
                        }
                }
                // Nothing more is opened in a session: the queue only ends with the connection.
                None = accepted.recv() => break,
            }
        }
        from_command.close();
    };
    let (ending, ()) = tokio::join!(work(Remote { stdin, sizes, out }), sending);
    let _ = error.output.send(ending.status().to_string().as_bytes()).await;
    for output in [outputs.0, outputs.1].into_iter().flatten() {
        let _ = output.finish().await;
    }
    let _ = error.output.finish().await;
    // The client closes the connection when it has read everything.
    let _ = tokio::time::timeout(Duration::from_secs(5), async {
        while accepted.recv().await.is_some() {}
    })
    .await;
}
