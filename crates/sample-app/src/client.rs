//! One JSON answer from another service.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::sync::OnceLock;
use std::time::Duration;

/// Largest answer taken (bytes).
const MAX_ANSWER: usize = 1 << 20;

/// Headers that a service hands on to those it calls: what traces are joined by, and who the request is for.
const PASSED_ON: [&str; 16] = [
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "traceparent",
    "tracestate",
    "baggage",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "authorization",
    "end-user",
];

/// Those of `headers` that are handed on.
pub fn passed_on(headers: &HeaderMap) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| PASSED_ON.contains(&name.as_str()))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

/// GET, within `patience`.
///
/// # Errors
/// If there is no answer in time, it is not 200, or not JSON.
pub async fn get_json(url: &str, headers: &HeaderMap, patience: Duration) -> Result<Value, String> {
    static CLIENT: OnceLock<Client<HttpConnector, Body>> = OnceLock::new();
    let client = CLIENT.get_or_init(|| Client::builder(TokioExecutor::new()).build_http());
    let mut request = Request::get(url).body(Body::empty()).map_err(|e| e.to_string())?;
    request.headers_mut().extend(headers.clone());
    let answer = async {
        let response = client.request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = axum::body::to_bytes(Body::new(response.into_body()), MAX_ANSWER)
            .await
            .map_err(|e| e.to_string())?;
        if status.is_success() {
            serde_json::from_slice(&body).map_err(|e| e.to_string())
        } else {
            Err(format!("{url} answered {status}"))
        }
    };
    tokio::time::timeout(patience, answer)
        .await
        .unwrap_or_else(|_| Err(format!("{url} did not answer within {patience:?}")))
}
