//! One HTTPS request at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::Target;

/// Longest request, watches included.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a definition may take to be served.
const SERVED_WITHIN: Duration = Duration::from_secs(40);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

/// The administrator.
#[derive(Debug, Clone)]
pub struct Admin(pub Target);

impl Admin {
    /// Sends a request.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        media_type: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.0.address)
            .header("content-type", media_type)
            .header("user-agent", "conformance/1.0")
            .body(Full::new(Bytes::from(body)))?;
        send(&self.0.address, self.0.admin.clone(), request).await
    }

    /// Creates the CustomResourceDefinitions of a file and waits until their resources are served.
    ///
    /// # Errors
    /// When one is refused or none of its versions is served in time.
    pub async fn define(&self, definitions: &str) -> anyhow::Result<()> {
        const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let definitions: Vec<Value> = serde_saphyr::from_multiple(definitions)?;
        for definition in definitions.iter().filter(|definition| definition.is_object()) {
            let answer = self.send("POST", PATH, "application/json", Some(definition)).await?;
            // There before is as good as made: stories share their definitions.
            if !matches!(answer.status, 201 | 409) {
                bail!(
                    "{}: {}",
                    definition["metadata"]["name"],
                    String::from_utf8_lossy(&answer.body)
                );
            }
        }
        let deadline = Instant::now() + SERVED_WITHIN;
        for definition in definitions.iter().filter(|definition| definition.is_object()) {
            let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let path = format!(
                "/apis/{}/{}/{}",
                text("/spec/group"),
                text("/spec/versions/0/name"),
                text("/spec/names/plural")
            );
            while self.send("GET", &path, "application/json", None).await?.status != 200 {
                if Instant::now() > deadline {
                    bail!("{path} is not served");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

/// Sends a request and reads the whole answer.
pub async fn send(
    address: &str,
    tls: Arc<ClientConfig>,
    request: http::Request<Full<Bytes>>,
) -> anyhow::Result<Answer> {
    tokio::time::timeout(TIMEOUT, exchange(address, tls, request))
        .await
        .context("no answer within a minute")?
}

async fn exchange(
    address: &str,
    tls: Arc<ClientConfig>,
    request: http::Request<Full<Bytes>>,
) -> anyhow::Result<Answer> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned();
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(tls)
        .connect(ServerName::try_from(host)?, stream)
        .await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers,
        body,
    })
}
