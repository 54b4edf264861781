//! One HTTP/1.1 request with every bound in place: connect and total time, size of the answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::{TcpSocket, TcpStream};

/// Where to connect, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS without verifying the certificate, as the kubelet probes.
    pub tls: bool,
    /// Address to connect from, where capture rules look at it.
    pub from: Option<IpAddr>,
}

impl Target {
    /// Plain HTTP to `host:port`.
    pub fn plain(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            tls: false,
            from: None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody accepted the connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    /// The connection broke or the answer is no HTTP, or too long.
    #[error("no answer from {0}: {1}")]
    Answer(String, String),
    /// It took too long.
    #[error("{0} did not answer within {1:?}")]
    Timeout(String, Duration),
}

/// Sends `request` (with an origin-form URI) and reads the whole answer, at most `limit` bytes of body.
///
/// # Errors
/// If there is no whole answer within `timeout`.
pub async fn fetch(
    target: &Target,
    request: Request<Full<Bytes>>,
    timeout: Duration,
    limit: usize,
) -> Result<Response<Bytes>, FetchError> {
    let name = format!("{}:{}", target.host, target.port);
    let elapsed = FetchError::Timeout(name.clone(), timeout);
    tokio::time::timeout(timeout, exchange(target, name, request, limit))
        .await
        .map_err(|_| elapsed)?
}

/// GET `path` from `target`.
///
/// # Errors
/// If there is no whole answer within `timeout`.
pub async fn get(target: &Target, path: &str, timeout: Duration, limit: usize) -> Result<Response<Bytes>, FetchError> {
    let name = format!("{}:{}", target.host, target.port);
    let wrong = |e: http::Error| FetchError::Answer(name.clone(), format!("cannot ask for {path:?}: {e}"));
    let host = name.clone();
    let request = Request::get(path)
        .header(http::header::HOST, host)
        .body(Full::default())
        .map_err(wrong)?;
    fetch(target, request, timeout, limit).await
}

async fn exchange(
    target: &Target,
    name: String,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Response<Bytes>, FetchError> {
    let tcp = connect(target)
        .await
        .map_err(|e| FetchError::Connect(name.clone(), e))?;
    let answer = |e: &dyn std::fmt::Display| FetchError::Answer(name.clone(), e.to_string());
    if !target.tls {
        return send(TokioIo::new(tcp), request, limit).await.map_err(|e| answer(&e));
    }
    let server = ServerName::try_from(target.host.clone()).map_err(|e| answer(&e))?;
    let tls = tokio_rustls::TlsConnector::from(unverified())
        .connect(server, tcp)
        .await
        .map_err(|e| answer(&e))?;
    send(TokioIo::new(tls), request, limit).await.map_err(|e| answer(&e))
}

/// Opens the connection from the address that is asked for.
pub(crate) async fn connect(target: &Target) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("the name has no address");
    for address in tokio::net::lookup_host((target.host.as_str(), target.port)).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(from) = target.from
            && from.is_ipv4() == address.is_ipv4()
        {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn send<I>(io: I, request: Request<Full<Bytes>>, limit: usize) -> Result<Response<Bytes>, String>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(|e| e.to_string())?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, limit)
        .collect()
        .await
        .map_err(|e| e.to_string())?
        .to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}

/// Accepts any certificate: probes ask whether the application answers, not who it is.
#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

fn unverified() -> Arc<rustls::ClientConfig> {
    let provider = ca::tls::provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone());
    #[allow(
        clippy::expect_used,
        reason = "the provider has suites for both versions; nothing from outside is read"
    )]
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3 are compiled in");
    let verifier = Arc::new(AnyServer(provider));
    Arc::new(
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth(),
    )
}

impl ServerCertVerifier for AnyServer {
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
