//! One HTTPS call to a webhook, with the error texts of the real server.

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::net::TcpStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Where to call and whom to trust.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The URL as messages print it, with the timeout.
    pub url: String,
    /// Host to dial.
    pub host: String,
    /// Port to dial.
    pub port: u16,
    /// Name the certificate must be valid for, also the `Host`.
    pub server_name: String,
    /// Path and query.
    pub path: String,
    /// PEM of the authorities to trust.
    pub ca_bundle: Vec<u8>,
}

/// Posts `body` and returns the JSON answer.
///
/// # Errors
/// The text after `failed to call webhook: `.
pub async fn post(endpoint: &Endpoint, body: &Value, timeout: Duration) -> Result<Value, String> {
    let outcome = tokio::time::timeout(timeout, exchange(endpoint, body)).await;
    let (status, content_type, bytes) = match outcome {
        Err(_) => return Err(format!("Post {:?}: context deadline exceeded", endpoint.url)),
        Ok(Err(text)) => return Err(format!("Post {:?}: {text}", endpoint.url)),
        Ok(Ok(answer)) => answer,
    };
    if !(200..300).contains(&status) {
        return Err(refusal(status, &content_type, &bytes));
    }
    decode(&bytes)
}

async fn exchange(endpoint: &Endpoint, body: &Value) -> Result<(u16, String, Bytes), String> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
        .await
        .map_err(|e| dial_error(endpoint, &e))?;
    stream.set_nodelay(true).ok();
    let tls = tls_config(&endpoint.ca_bundle)?;
    let name = ServerName::try_from(endpoint.server_name.clone())
        .map_err(|_| format!("tls: {:?} is not a server name", endpoint.server_name))?;
    let stream = tokio_rustls::TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .map_err(|e| tls_error(endpoint, &e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let host = if endpoint.port == 443 {
        endpoint.server_name.clone()
    } else {
        format!("{}:{}", endpoint.server_name, endpoint.port)
    };
    let request = Request::post(&endpoint.path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| {
        if e.is_incomplete_message() {
            "EOF".into()
        } else {
            e.to_string()
        }
    })?;
    let status = response.status().as_u16();
    let content_type = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let bytes = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|e| e.to_string())?
        .to_bytes();
    driver.abort();
    Ok((status, content_type, bytes))
}

fn tls_config(ca_bundle: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let mut known = Vec::new();
    for cert in CertificateDer::pem_slice_iter(ca_bundle).flatten() {
        roots
            .add(cert.clone())
            .map_err(|e| format!("unable to load root certificates: {e}"))?;
        known.push(cert);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    if known.is_empty() {
        return Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| format!("unable to load root certificates: {e}"))?;
    let verifier = Arc::new(SelfSigned { inner, known });
    Ok(Arc::new(
        config
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth(),
    ))
}

/// The usual verification, and what Go allows beyond it: a serving certificate that is itself in the bundle.
#[derive(Debug)]
struct SelfSigned {
    inner: Arc<WebPkiServerVerifier>,
    known: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for SelfSigned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.known.iter().any(|k| k == leaf) {
            return self.inner.verify_server_cert(leaf, chain, name, ocsp, now);
        }
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding))?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = parsed.validity();
        if seconds < validity.not_before.timestamp() || seconds > validity.not_after.timestamp() {
            return Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired));
        }
        if !names_server(&parsed, name) {
            return Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::NotValidForName,
            ));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn names_server(cert: &X509Certificate<'_>, name: &ServerName<'_>) -> bool {
    let Ok(Some(alternatives)) = cert.subject_alternative_name() else {
        return false;
    };
    alternatives
        .value
        .general_names
        .iter()
        .any(|alternative| match (alternative, name) {
            (GeneralName::DNSName(pattern), ServerName::DnsName(host)) => {
                let host = host.as_ref();
                pattern.eq_ignore_ascii_case(host)
                    || pattern.strip_prefix("*.").is_some_and(|p| {
                        host.split_once('.')
                            .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(p))
                    })
            }
            (GeneralName::IPAddress(bytes), ServerName::IpAddress(ip)) => match std::net::IpAddr::from(*ip) {
                std::net::IpAddr::V4(v4) => *bytes == v4.octets(),
                std::net::IpAddr::V6(v6) => *bytes == v6.octets(),
            },
            _ => false,
        })
}

fn dial_error(endpoint: &Endpoint, error: &std::io::Error) -> String {
    let address = if endpoint.host.contains(':') {
        format!("[{}]:{}", endpoint.host, endpoint.port)
    } else {
        format!("{}:{}", endpoint.host, endpoint.port)
    };
    let cause = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused",
        std::io::ErrorKind::HostUnreachable => "connect: no route to host",
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable",
        std::io::ErrorKind::TimedOut => "i/o timeout",
        _ if endpoint.host.parse::<std::net::IpAddr>().is_err() => {
            return format!("dial tcp: lookup {}: no such host", endpoint.host);
        }
        _ => return format!("dial tcp {address}: {error}"),
    };
    format!("dial tcp {address}: {cause}")
}

fn tls_error(endpoint: &Endpoint, error: &std::io::Error) -> String {
    use rustls::{CertificateError as Cert, Error};
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    let failed = "tls: failed to verify certificate: x509";
    match inner {
        Some(Error::InvalidCertificate(Cert::UnknownIssuer)) => {
            format!("{failed}: certificate signed by unknown authority")
        }
        Some(Error::InvalidCertificate(Cert::NotValidForName | Cert::NotValidForNameContext { .. })) => {
            format!("{failed}: certificate is not valid for {}", endpoint.server_name)
        }
        Some(Error::InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. })) => {
            format!("{failed}: certificate has expired or is not yet valid")
        }
        _ => error.to_string(),
    }
}

fn refusal(status: u16, content_type: &str, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = if content_type.starts_with("text/") && !text.trim().is_empty() {
        text.trim().to_owned()
    } else {
        "unknown".into()
    };
    match status {
        404 => "the server could not find the requested resource".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 => text,
        405 => "the server does not allow this method on the requested resource".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .into()
        }
        500.. => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {status} but did not return more information"),
    }
}

fn decode(bytes: &[u8]) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_slice::<Value>(bytes)
        && value.is_object()
    {
        return Ok(value);
    }
    // The real server falls back to YAML, in which almost any text is a string.
    let kind = match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Array(_)) => "array",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        _ => "string",
    };
    Err(format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {kind} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    ))
}
