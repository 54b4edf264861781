//! Carries one request to another server and its answer back; after a 101 the bytes of both directions.

use super::target::{Scheme, Target};
use crate::{
    auth::pki::{Identity, PkiError},
    core::Body,
    error::ApiError,
};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::WebPkiSupportedAlgorithms,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::TcpStream,
};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Headers that belong to one connection and are not passed on.
const HOP: [&str; 6] = [
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "proxy-authenticate",
];

/// Anything bytes go through.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// TLS settings for the servers that requests are forwarded to.
#[derive(Clone)]
pub struct Tls {
    node: Arc<ClientConfig>,
    any: Arc<ClientConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Trusts `ca_pem` for nodes and shows them `identity`.
    ///
    /// # Errors
    /// When certificate or key are no PEM.
    pub fn new(ca_pem: &str, identity: &Identity) -> Result<Self, PkiError> {
        let pem = || PkiError::Pem("cluster certificates".into());
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()).flatten() {
            roots.add(cert).map_err(|_| pem())?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(|_| pem())
        };
        let (chain, key) = identity.to_rustls()?;
        let node = builder()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|_| pem())?;
        let any = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
            .with_no_client_auth();
        Ok(Tls {
            node: Arc::new(node),
            any: Arc::new(any),
        })
    }
}

/// Proxied pods and services may show any certificate: the caller asked for that very pod.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

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
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Forwards `request` to `target`.
///
/// # Errors
/// 500 when a node cannot be reached, 503 for a pod or service.
pub async fn forward(tls: &Tls, target: &Target, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
    exchange(tls, target, request)
        .await
        .map_err(|text| match target.scheme {
            Scheme::Node => ApiError::internal(format!(
                "error dialing backend: {text}; is the node {}:{} running?",
                target.host, target.port
            )),
            _ => ApiError::new(
                503,
                "ServiceUnavailable",
                format!("error trying to reach service: {text}"),
            ),
        })
}

async fn exchange(tls: &Tls, target: &Target, mut request: Request<Incoming>) -> Result<Response<Body>, String> {
    let io = dial(tls, target).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "proxied connection ended");
        }
    });
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let outgoing = prepare(target, request, upgrade.is_some())?;
    let mut response = sender.send_request(outgoing).await.map_err(|e| e.to_string())?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(splice(client, server));
        let (parts, _) = response.into_parts();
        let empty = Empty::new().map_err(|never| match never {}).boxed();
        let mut back = Response::from_parts(parts, empty);
        back.headers_mut().remove(header::CONTENT_LENGTH);
        return Ok(back);
    }
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    Ok(Response::from_parts(parts, body.map_err(io::Error::other).boxed()))
}

async fn dial(tls: &Tls, target: &Target) -> Result<Box<dyn Stream>, String> {
    let address = format!("{}:{}", target.host, target.port);
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect((target.host.as_str(), target.port)))
        .await
        .map_err(|_| format!("dial tcp {address}: i/o timeout"))?
        .map_err(|e| format!("dial tcp {address}: {e}"))?;
    stream.set_nodelay(true).ok();
    let config = match target.scheme {
        Scheme::Http => return Ok(Box::new(stream)),
        Scheme::Https => tls.any.clone(),
        Scheme::Node => tls.node.clone(),
    };
    let name = ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
    let stream = tokio_rustls::TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|e| format!("tls: {e}"))?;
    Ok(Box::new(stream))
}

/// The request as the other server gets it: its own path, no credentials of the caller.
fn prepare(target: &Target, request: Request<Incoming>, upgrading: bool) -> Result<Request<Incoming>, String> {
    let (mut parts, body) = request.into_parts();
    parts.uri = target.path.parse().map_err(|e| format!("{:?}: {e}", target.path))?;
    parts.version = http::Version::HTTP_11;
    let headers = &mut parts.headers;
    if !upgrading {
        strip(headers);
        headers.remove(header::UPGRADE);
    }
    headers.remove(header::AUTHORIZATION);
    drop_impersonation(headers);
    let host = format!("{}:{}", target.host, target.port)
        .parse()
        .map_err(|_| "the host is no header value".to_owned())?;
    headers.insert(header::HOST, host);
    parts.extensions = http::Extensions::new();
    Ok(Request::from_parts(parts, body))
}

fn strip(headers: &mut HeaderMap) {
    headers.remove(header::CONNECTION);
    for name in HOP {
        headers.remove(name);
    }
}

fn drop_impersonation(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|k| k.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Copies until both directions are done; the end of one is passed on, the other goes on.
async fn splice(client: hyper::upgrade::OnUpgrade, server: hyper::upgrade::OnUpgrade) {
    match tokio::try_join!(client, server) {
        Ok((client, server)) => {
            let (mut a, mut b) = (TokioIo::new(client), TokioIo::new(server));
            if let Err(error) = copy_bidirectional(&mut a, &mut b).await {
                tracing::debug!(%error, "tunnel ended");
            }
        }
        Err(error) => tracing::debug!(%error, "upgrade failed"),
    }
}
