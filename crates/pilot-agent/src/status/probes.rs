//! Probes of the application that injection redirected to the agent (revisions.md §5.7), because the kubelet cannot
//! reach the application through mutual TLS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::Full;
use serde::Deserialize;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::fetch::{self, Target, fetch};

/// As the kubelet, no more of an answer is read, in bytes.
const MAX_BODY: usize = 10 * 1024;
/// As the kubelet, no more redirections are followed.
const MAX_REDIRECTS: usize = 10;

/// `ISTIO_KUBE_APP_PROBERS` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("ISTIO_KUBE_APP_PROBERS: {0}")]
pub struct ProbesError(String);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Probe {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    timeout_seconds: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HttpGet {
    path: String,
    port: u16,
    scheme: String,
    http_headers: Vec<Header>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Clone, Deserialize)]
struct TcpSocket {
    port: u16,
}

#[derive(Debug, Clone, Deserialize)]
struct Grpc {
    port: u16,
    service: Option<String>,
}

/// The probes by path.
#[derive(Debug)]
pub struct Probes {
    probes: BTreeMap<String, Probe>,
    destination: String,
    from: Option<IpAddr>,
}

impl Probes {
    /// From `ISTIO_KUBE_APP_PROBERS`; they go to `destination`, the pod's address or `localhost`.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn new(text: &str, destination: &str) -> Result<Self, ProbesError> {
        let mut probes: BTreeMap<String, Probe> = BTreeMap::new();
        if !text.is_empty() {
            probes = serde_json::from_str(text).map_err(|e| ProbesError(e.to_string()))?;
        }
        for (path, probe) in &probes {
            let kinds = [
                probe.http_get.is_some(),
                probe.tcp_socket.is_some(),
                probe.grpc.is_some(),
            ];
            if !is_probe_path(path) {
                return Err(ProbesError(format!(
                    "{path:?} is not /app-health/<container>/livez, readyz or startupz"
                )));
            }
            if kinds.iter().filter(|k| **k).count() != 1 {
                return Err(ProbesError(format!(
                    "{path:?} must be one of httpGet, tcpSocket and grpc"
                )));
            }
        }
        // Traffic from this address is not captured, although it comes from the proxy's user.
        let from = match destination.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => Some(IpAddr::from([127, 0, 0, 6])),
            Ok(IpAddr::V6(_)) => Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 6])),
            Err(_) => None,
        };
        Ok(Self {
            probes,
            destination: destination.to_owned(),
            from,
        })
    }

    /// Does the probe behind `path` and answers as the application did.
    pub async fn probe(&self, path: &str, headers: &HeaderMap) -> Response {
        let Some(probe) = self.probes.get(path) else {
            return (StatusCode::NOT_FOUND, "no such probe").into_response();
        };
        let timeout = Duration::from_secs(u64::from(probe.timeout_seconds.clamp(1, 3600)));
        let result = match (&probe.http_get, &probe.tcp_socket, &probe.grpc) {
            (Some(http), ..) => self.http(http, headers, timeout).await,
            (_, Some(tcp), _) => self.tcp(tcp, timeout).await,
            (_, _, Some(grpc)) => self.grpc(grpc, timeout).await,
            _ => Err("no probe".to_owned()),
        };
        match result {
            Ok((status, body)) => (status, body).into_response(),
            Err(error) => {
                tracing::warn!(%path, %error, "probe of the application failed");
                (StatusCode::INTERNAL_SERVER_ERROR, error).into_response()
            }
        }
    }

    fn target(&self, port: u16, tls: bool) -> Target {
        Target {
            host: self.destination.clone(),
            port,
            tls,
            from: self.from,
        }
    }

    async fn http(
        &self,
        get: &HttpGet,
        from_kubelet: &HeaderMap,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), String> {
        let target = self.target(get.port, get.scheme.eq_ignore_ascii_case("https"));
        let mut path = if get.path.starts_with('/') {
            get.path.clone()
        } else {
            format!("/{}", get.path)
        };
        let exchange = async {
            for _ in 0..MAX_REDIRECTS {
                let request = self.request(get, &path, from_kubelet)?;
                let response = fetch(&target, request, timeout, MAX_BODY)
                    .await
                    .map_err(|e| e.to_string())?;
                let status = response.status();
                match response
                    .headers()
                    .get(header::LOCATION)
                    .filter(|_| status.is_redirection())
                {
                    // Elsewhere is a success, as for the kubelet; here it is followed.
                    Some(location) => match own_path(location, &self.destination) {
                        Some(next) => path = next,
                        None => return Ok((StatusCode::OK, Bytes::from_static(b"redirected elsewhere"))),
                    },
                    None => return Ok((status, response.into_body())),
                }
            }
            Err(format!("stopped after {MAX_REDIRECTS} redirects"))
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .map_err(|_| format!("no answer within {timeout:?}"))?
    }

    fn request(
        &self,
        get: &HttpGet,
        path: &str,
        from_kubelet: &HeaderMap,
    ) -> Result<http::Request<Full<Bytes>>, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in from_kubelet {
            if !matches!(
                name.as_str(),
                "host" | "connection" | "content-length" | "transfer-encoding" | "accept-encoding"
            ) {
                headers.append(name, value.clone());
            }
        }
        let host = format!("{}:{}", self.destination, get.port);
        headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(|e| e.to_string())?);
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        for own in &get.http_headers {
            let name = HeaderName::from_bytes(own.name.as_bytes()).map_err(|e| format!("{:?}: {e}", own.name))?;
            headers.insert(
                name,
                HeaderValue::from_str(&own.value).map_err(|e| format!("{:?}: {e}", own.name))?,
            );
        }
        let mut request = http::Request::get(path)
            .body(Full::default())
            .map_err(|e| format!("{path:?}: {e}"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn tcp(&self, tcp: &TcpSocket, timeout: Duration) -> Result<(StatusCode, Bytes), String> {
        let target = self.target(tcp.port, false);
        let connect = fetch::connect(&target);
        tokio::time::timeout(timeout, connect)
            .await
            .map_err(|_| "connection timed out")?
            .map_err(|e| e.to_string())?;
        Ok((StatusCode::OK, Bytes::new()))
    }

    async fn grpc(&self, grpc: &Grpc, timeout: Duration) -> Result<(StatusCode, Bytes), String> {
        let target = self.target(grpc.port, false);
        let endpoint = tonic::transport::Endpoint::from_static("http://probe").timeout(timeout);
        let connector = tower::service_fn(move |_: Uri| {
            let target = target.clone();
            async move { fetch::connect(&target).await.map(hyper_util::rt::TokioIo::new) }
        });
        let exchange = async {
            let channel = endpoint
                .connect_with_connector(connector)
                .await
                .map_err(|e| e.to_string())?;
            let request = HealthCheckRequest {
                service: grpc.service.clone().unwrap_or_default(),
            };
            let answer = HealthClient::new(channel)
                .check(request)
                .await
                .map_err(|s| s.message().to_owned())?;
            match answer.into_inner().status() {
                ServingStatus::Serving => Ok((StatusCode::OK, Bytes::new())),
                other => Err(format!("service is {}", other.as_str_name())),
            }
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .map_err(|_| format!("no answer within {timeout:?}"))?
    }
}

/// `/app-health/<container>/{livez,readyz,startupz}` and `/app-lifecycle/<container>/{prestopz,poststartz}`.
fn is_probe_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(
        parts[..],
        ["", "app-health" | "app-lifecycle", container, "livez" | "readyz" | "startupz" | "prestopz" | "poststartz"]
            if !container.is_empty()
    )
}

/// Path and query of a redirection that stays with `host`.
fn own_path(location: &HeaderValue, host: &str) -> Option<String> {
    let uri: Uri = location.to_str().ok()?.parse().ok()?;
    let stays = uri.host().is_none_or(|h| h == host);
    stays.then(|| uri.path_and_query().map_or("/", |p| p.as_str()).to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn malformed_probes_are_refused() {
        let check = |text: &str, ok: bool| assert_eq!(Probes::new(text, "10.0.0.1").is_ok(), ok, "{text}");
        check("", true);
        check(
            r#"{"/app-health/app/readyz":{"httpGet":{"path":"/","port":80},"timeoutSeconds":1}}"#,
            true,
        );
        check(r#"{"/app-health/app/readyz":{}}"#, false);
        check(r#"{"/app-health//readyz":{"tcpSocket":{"port":80}}}"#, false);
        check(r#"{"/other":{"tcpSocket":{"port":80}}}"#, false);
        check(r#"{"/app-health/a/livez":{"tcpSocket":{"port":"http"}}}"#, false);
    }

    #[test]
    fn redirections_within_the_pod_are_followed() {
        let check = |location: &str, expected: Option<&str>| {
            let value = HeaderValue::from_str(location).unwrap();
            assert_eq!(own_path(&value, "10.0.0.1").as_deref(), expected, "{location}");
        };
        check("/login?a=1", Some("/login?a=1"));
        check("http://10.0.0.1:80/x", Some("/x"));
        check("https://example.com/x", None);
    }
}
