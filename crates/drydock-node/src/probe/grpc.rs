//! The gRPC health check, small enough to be spoken by hand: one unary call with one string in, one number out.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::net::TcpStream;

const SERVING: u8 = 1;

/// Calls `grpc.health.v1.Health/Check` without TLS.
///
/// # Errors
/// If nobody answers or the service is not SERVING.
pub(super) async fn check(address: SocketAddr, service: &str) -> Result<(), String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|e| format!("failed to connect service \"{address}\": {e}"))?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| format!("failed to connect service \"{address}\": {e}"))?;
    let task = tokio::spawn(connection);
    let request = hyper::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(frame(service))))
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let header_status = response.headers().get("grpc-status").cloned();
    let body = http_body_util::Limited::new(response.into_body(), 64 << 10)
        .collect()
        .await
        .map_err(|e| e.to_string())?;
    task.abort();
    let status = body
        .trailers()
        .and_then(|t| t.get("grpc-status"))
        .cloned()
        .or(header_status);
    if status.is_some_and(|s| s != "0") {
        return Err("service unhealthy (responded with an error status)".into());
    }
    match serving(&body.to_bytes()) {
        Some(SERVING) => Ok(()),
        other => Err(format!("service unhealthy (responded with {:?})", other.unwrap_or(0))),
    }
}

/// Five bytes of gRPC framing, then `HealthCheckRequest { service = 1 }`.
fn frame(service: &str) -> Vec<u8> {
    let service = &service.as_bytes()[..service.len().min(120)];
    let mut message = vec![0, 0, 0, 0, 0];
    if !service.is_empty() {
        message.extend([0x0a, service.len() as u8]);
        message.extend(service);
    }
    message[4] = (message.len() - 5) as u8;
    message
}

/// `HealthCheckResponse { status = 1 }`.
fn serving(body: &[u8]) -> Option<u8> {
    match body.get(5..)? {
        [0x08, status, ..] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_messages() {
        assert_eq!(frame("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(frame(""), [0; 5]);
        assert_eq!(
            (serving(&[0, 0, 0, 0, 2, 8, 1]), serving(&[0, 0, 0, 0, 0])),
            (Some(1), None)
        );
    }
}
