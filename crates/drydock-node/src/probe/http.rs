//! The HTTP client of probes: one request, any certificate.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What the probe asks for, as messages show it.
pub(super) fn url(address: SocketAddr, get: &HTTPGetAction) -> String {
    let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase();
    let path = get.path.as_deref().unwrap_or("/");
    format!(
        "{scheme}://{address}{}{path}",
        if path.starts_with('/') { "" } else { "/" }
    )
}

/// One GET.
///
/// # Errors
/// If nobody answers, or with a code outside of 200 to 399.
pub(super) async fn get(address: SocketAddr, get: &HTTPGetAction) -> Result<(), String> {
    let url = url(address, get);
    let failed = |e: &dyn std::fmt::Display| format!("Get \"{url}\": {e}");
    let stream = TcpStream::connect(address)
        .await
        .map_err(|e| failed(&format!("dial tcp {address}: connect: {}", super::plain(&e))))?;
    let code = if get.scheme.as_deref() == Some("HTTPS") {
        let connector = tokio_rustls::TlsConnector::from(trusting());
        let name = ServerName::IpAddress(address.ip().into());
        let tls = connector.connect(name, stream).await.map_err(|e| failed(&e))?;
        request(tls, address, get).await
    } else {
        request(stream, address, get).await
    };
    match code.map_err(|e| failed(&e))? {
        200..=399 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

async fn request<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    address: SocketAddr,
    get: &HTTPGetAction,
) -> Result<u16, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let task = tokio::spawn(connection);
    let path = get.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_string()
    } else {
        format!("/{path}")
    };
    let mut request = hyper::Request::builder()
        .uri(path)
        .header("user-agent", "kube-probe/1.33")
        .header("accept", "*/*")
        .header("connection", "close");
    let mut host = address.to_string();
    for header in get.http_headers.iter().flatten() {
        if header.name.eq_ignore_ascii_case("host") {
            host.clone_from(&header.value);
        } else {
            request = request.header(&header.name, &header.value);
        }
    }
    let request = request
        .header("host", host)
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let code = response.status().as_u16();
    // A little of the body, so that small answers end the connection properly.
    let _ = http_body_util::Limited::new(response.into_body(), 10 << 10)
        .collect()
        .await;
    task.abort();
    Ok(code)
}

/// Probes ask whether somebody answers, not who: kubelet does not verify either.
fn trusting() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier = Arc::new(AnyCertificate(provider.clone()));
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            // The default provider supports the default versions.
            let builder = builder.unwrap_or_else(|e| unreachable!("{e}"));
            Arc::new(
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
                    .with_no_client_auth(),
            )
        })
        .clone()
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn check(answer: &'static str, action: serde_json::Value) -> (Result<(), String>, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        let mut action = action;
        action["port"] = json!(address.port());
        let result = get(address, &serde_json::from_value(action).unwrap()).await;
        (result, server.await.unwrap())
    }

    #[tokio::test]
    async fn codes_and_headers() {
        let (result, request) = check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", json!({"path": "ready?x=1", "httpHeaders": [{"name": "Host", "value": "h"}, {"name": "X-A", "value": "1"}]})).await;
        assert_eq!(result, Ok(()));
        assert!(
            request.starts_with("GET /ready?x=1 HTTP/1.1\r\n")
                && request.contains("x-a: 1")
                && request.contains("host: h\r\n"),
            "{request}"
        );
        assert_eq!(
            check("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", json!({}))
                .await
                .0,
            Ok(())
        );
        assert_eq!(
            check("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", json!({})).await.0,
            Err("HTTP probe failed with statuscode: 503".into())
        );
    }
}
