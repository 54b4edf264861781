//! `pilot-agent request METHOD PATH`: one request to a port of this pod. `istioctl` runs it through `exec`, so the answer
//! alone goes to standard output.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::Full;

use crate::fetch::{Target, fetch};

/// Ports that may be asked: administration, discovery debug, status, health.
pub const ALLOWED_PORTS: [u16; 4] = [15000, 15004, 15020, 15021];
/// A configuration dump of a large mesh, in bytes.
const MAX_ANSWER: usize = 1024 * 1024 * 1024;

/// Sends the request and returns the answer's body.
///
/// # Errors
/// If the port is not allowed, nobody answers, or the answer is no success.
pub async fn run(method: &str, path: &str, body: &str, port: u16) -> anyhow::Result<Bytes> {
    if !ALLOWED_PORTS.contains(&port) {
        anyhow::bail!("debug port {port} is not in allowed list {ALLOWED_PORTS:?}");
    }
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes())?;
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, format!("localhost:{port}"))
        .header(http::header::CONTENT_LENGTH, body.len())
        .body(Full::from(body.to_owned()))?;
    let answer = fetch(
        &Target::plain("localhost", port),
        request,
        Duration::from_secs(60),
        MAX_ANSWER,
    )
    .await?;
    if !answer.status().is_success() {
        anyhow::bail!(
            "received unsuccessful status code {}: {}",
            answer.status().as_u16(),
            String::from_utf8_lossy(answer.body()).trim()
        );
    }
    Ok(answer.into_body())
}
