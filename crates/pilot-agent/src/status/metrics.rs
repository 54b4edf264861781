//! Metrics of agent, Envoy and application as one page (revisions.md §5.7). One source that fails does not hide the
//! others; it is counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::Full;
use jiff::Timestamp;
use serde::Deserialize;

use crate::fetch::{Target, fetch};
use crate::relay::Health;
use crate::workload::Published;
use tokio::sync::watch;

/// No more is read of one source, in bytes (control-plane.md §4.7).
const MAX_SOURCE: usize = 10 * 1024 * 1024;
/// A source that takes longer is left out, unless the scraper asks for another time.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Ports that belong to the proxy and are never the application's (revisions.md §5.7).
const RESERVED: [u16; 9] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090];
/// No application has more targets than this.
const MAX_TARGETS: usize = 64;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text";

/// `ISTIO_PROMETHEUS_ANNOTATIONS`: what the pod said about its own metrics.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Annotations {
    scrape: String,
    path: String,
    port: String,
    targets: Vec<Endpoint>,
}

/// One source of the application.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Endpoint {
    port: String,
    path: String,
}

/// A source that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    port: u16,
    path: String,
}

/// Where metrics come from.
#[derive(Debug)]
pub struct Metrics {
    envoy_port: u16,
    application: Vec<Source>,
    workload: Published,
    istiod: watch::Receiver<Health>,
    started: Instant,
    scrapes: AtomicU64,
    envoy_failures: AtomicU64,
    application_failures: AtomicU64,
}

/// `ISTIO_PROMETHEUS_ANNOTATIONS` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("invalid prometheus scrape configuration {0}")]
pub struct ScrapeError(String);

fn sources(annotations: &str, status_port: u16) -> Result<Vec<Source>, ScrapeError> {
    if annotations.is_empty() {
        return Ok(Vec::new());
    }
    let parsed: Annotations = serde_json::from_str(annotations).map_err(|e| ScrapeError(e.to_string()))?;
    if parsed.scrape == "false" {
        return Ok(Vec::new());
    }
    let mut endpoints = parsed.targets;
    if endpoints.is_empty() {
        let port = if parsed.port.is_empty() {
            "80".to_owned()
        } else {
            parsed.port
        };
        endpoints.push(Endpoint {
            port,
            path: parsed.path,
        });
    }
    if endpoints.len() > MAX_TARGETS {
        return Err(ScrapeError(format!(
            "{} targets; at most {MAX_TARGETS}",
            endpoints.len()
        )));
    }
    let source = |e: Endpoint| {
        let port = e.port.parse::<u16>().ok().filter(|p| *p > 0);
        let port = port.ok_or_else(|| ScrapeError(format!("port {:?} is not from 1 to 65535", e.port)))?;
        if port == status_port || RESERVED.contains(&port) {
            return Err(ScrapeError(format!(
                "port {port} belongs to the proxy; the application's is another one"
            )));
        }
        let path = if e.path.is_empty() {
            "/metrics".to_owned()
        } else {
            e.path
        };
        Ok(Source {
            port,
            path: if path.starts_with('/') {
                path
            } else {
                format!("/{path}")
            },
        })
    };
    endpoints.into_iter().map(source).collect()
}

impl Metrics {
    /// Envoy's on `envoy_port`, the application's as `annotations` say.
    ///
    /// # Errors
    /// If `annotations` cannot be used.
    pub fn new(
        envoy_port: u16,
        annotations: &str,
        status_port: u16,
        workload: Published,
        istiod: watch::Receiver<Health>,
    ) -> Result<Self, ScrapeError> {
        Ok(Self {
            envoy_port,
            application: sources(annotations, status_port)?,
            workload,
            istiod,
            started: Instant::now(),
            scrapes: AtomicU64::new(0),
            envoy_failures: AtomicU64::new(0),
            application_failures: AtomicU64::new(0),
        })
    }

    /// The page. `query` is passed on to Envoy.
    pub async fn merged(&self, headers: &HeaderMap, query: Option<&str>) -> Response {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        let path = query.map_or_else(|| "/stats/prometheus".to_owned(), |q| format!("/stats/prometheus?{q}"));
        let timeout = scrape_timeout(headers);
        let envoy = Source {
            port: self.envoy_port,
            path,
        };
        let envoy = scrape(&envoy, "text/plain;version=0.0.4", headers, timeout);
        // Only one source can be in OpenMetrics, because the page has one end.
        let single = self.application.len() == 1;
        let accept = if single {
            accept(headers)
        } else {
            "text/plain;version=0.0.4"
        };
        let application = self.application.iter().map(|s| scrape(s, accept, headers, timeout));
        let (envoy, application) = tokio::join!(envoy, futures::future::join_all(application));
        let mut page = Vec::new();
        match envoy {
            Ok((_, body)) => page.extend_from_slice(&body),
            Err(error) => {
                tracing::warn!(%error, "failed scraping Envoy's metrics");
                self.envoy_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut content_type = TEXT.to_owned();
        for result in application {
            match result {
                Ok((kind, body)) if single && kind.starts_with(OPEN_METRICS) => {
                    content_type = kind;
                    page.extend_from_slice(&body);
                }
                Ok((_, body)) => {
                    page.extend_from_slice(without_eof(&body));
                    if !page.ends_with(b"\n") {
                        page.push(b'\n');
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "failed scraping application metrics");
                    self.application_failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let mut whole = self.own().into_bytes();
        whole.append(&mut page);
        (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], whole).into_response()
    }

    fn own(&self) -> String {
        let count = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let istiod = self.istiod.borrow().clone();
        let mut text = format!(
            "# HELP istio_agent_scrapes_total The total number of scrapes.\n\
             # TYPE istio_agent_scrapes_total counter\nistio_agent_scrapes_total {}\n\
             # HELP istio_agent_scrape_failures_total The total number of failed scrapes.\n\
             # TYPE istio_agent_scrape_failures_total counter\n\
             istio_agent_scrape_failures_total{{type=\"application\"}} {}\n\
             istio_agent_scrape_failures_total{{type=\"envoy\"}} {}\n\
             # HELP istio_agent_istiod_connected Whether the discovery stream to istiod is open.\n\
             # TYPE istio_agent_istiod_connected gauge\nistio_agent_istiod_connected {}\n\
             # HELP istio_agent_num_istiod_connections_total Discovery streams opened.\n\
             # TYPE istio_agent_num_istiod_connections_total counter\nistio_agent_num_istiod_connections_total {}\n\
             # HELP istio_agent_uptime_seconds Age of the agent.\n\
             # TYPE istio_agent_uptime_seconds gauge\nistio_agent_uptime_seconds {}\n",
            count(&self.scrapes),
            count(&self.application_failures),
            count(&self.envoy_failures),
            u8::from(istiod.connected),
            istiod.connections,
            self.started.elapsed().as_secs(),
        );
        if let Some(workload) = self.workload.borrow().as_ref() {
            let left = workload.not_after.duration_since(Timestamp::now()).as_secs();
            text.push_str(&format!(
                "# HELP istio_agent_cert_expiry_seconds The time remaining, in seconds, before the certificate will expire.\n\
                 # TYPE istio_agent_cert_expiry_seconds gauge\n\
                 istio_agent_cert_expiry_seconds{{resource_name=\"default\"}} {left}\n"
            ));
        }
        text
    }
}

/// What the scraper takes that the application may answer with.
fn accept(headers: &HeaderMap) -> &'static str {
    let asked = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    if asked.contains(OPEN_METRICS) {
        "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5"
    } else {
        "text/plain;version=0.0.4"
    }
}

/// Prometheus says how long it will wait.
fn scrape_timeout(headers: &HeaderMap) -> Duration {
    let asked = headers
        .get("x-prometheus-scrape-timeout-seconds")
        .and_then(|v| v.to_str().ok());
    let seconds = asked
        .and_then(|v| v.parse::<f64>().ok())
        .filter(|s| s.is_finite() && *s > 0.0);
    seconds.map_or(TIMEOUT, |s| Duration::from_secs_f64(s.min(300.0)))
}

async fn scrape(
    source: &Source,
    accept: &str,
    headers: &HeaderMap,
    timeout: Duration,
) -> Result<(String, Bytes), String> {
    let target = Target::plain("localhost", source.port);
    let mut request = http::Request::get(&source.path)
        .header(header::HOST, format!("localhost:{}", source.port))
        .header(header::ACCEPT, accept);
    for name in ["user-agent", "x-prometheus-scrape-timeout-seconds"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let request = request
        .body(Full::default())
        .map_err(|e| format!("{:?}: {e}", source.path))?;
    let response = fetch(&target, request, timeout, MAX_SOURCE)
        .await
        .map_err(|e| e.to_string())?;
    if !response.status().is_success() {
        return Err(format!(
            "localhost:{}{:?}: HTTP status {}",
            source.port,
            source.path,
            response.status()
        ));
    }
    let kind = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    Ok((kind.to_owned(), response.into_body()))
}

/// The body without OpenMetrics' end mark.
fn without_eof(body: &[u8]) -> &[u8] {
    body.trim_ascii_end().strip_suffix(b"# EOF").unwrap_or(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_the_application() {
        let check = |text: &str, expected: Result<&[(u16, &str)], &str>| match (sources(text, 15020), expected) {
            (Ok(found), Ok(expected)) => {
                let found: Vec<_> = found.iter().map(|s| (s.port, s.path.as_str())).collect();
                assert_eq!(found, expected, "{text}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("", Ok(&[]));
        check(r#"{"scrape":"false","port":"80"}"#, Ok(&[]));
        check(r#"{"scrape":"true"}"#, Ok(&[(80, "/metrics")]));
        check(r#"{"port":"8080","path":"stats"}"#, Ok(&[(8080, "/stats")]));
        check(
            r#"{"targets":[{"port":"1"},{"port":"2","path":"/b"}]}"#,
            Ok(&[(1, "/metrics"), (2, "/b")]),
        );
        check(r#"{"port":"015020"}"#, Err("belongs to the proxy"));
        check(r#"{"port":"http"}"#, Err("not from 1 to 65535"));
        check("[", Err("invalid prometheus"));
    }

    #[test]
    fn the_end_mark_is_taken_off() {
        assert_eq!(without_eof(b"a 1\n# EOF\n"), b"a 1\n");
        assert_eq!(without_eof(b"a 1\n"), b"a 1\n");
    }
}
