//! The webhook server's routes on port 15017: `/inject` and `/validate` (revisions.md §5.2, §4.5).
//!
//! Only HTTP lives here. What a pod becomes is `inject`'s decision, what an object may say is the validator's.

// By path, so that the benchmark can take this file as it is.
#[path = "webhook/metrics.rs"]
mod metrics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use inject::Injector;
use inject::review::{LARGEST, Verdict, answer, path_environment};
use serde_json::{Value, json};

pub use metrics::InjectionMetrics;

/// How long a review may take to arrive; no API server waits longer for the answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Annotations of a namespace, if it is known.
pub type NamespaceAnnotations = dyn Fn(&str) -> Option<BTreeMap<String, String>> + Send + Sync;

/// Checks one custom resource: warnings if it is allowed, else why it is not.
pub type Validate = dyn Fn(&Value) -> Result<Vec<String>, String> + Send + Sync;

/// What the routes need; shared, and renewed when the configuration changes.
pub struct Webhooks {
    /// The current injector; `None` until the injector's configuration was read.
    pub injector: ArcSwapOption<Injector>,
    /// Looks up a namespace.
    pub namespaces: Box<NamespaceAnnotations>,
    /// Checks custom resources.
    pub validate: Box<Validate>,
    /// Counters of injection.
    pub metrics: InjectionMetrics,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks")
            .field("configured", &self.injector.load().is_some())
            .finish_non_exhaustive()
    }
}

/// The routes.
pub fn router(webhooks: Arc<Webhooks>) -> Router {
    Router::new()
        .route("/inject", post(inject_pod))
        .route("/inject/{*path}", post(inject_pod))
        .route("/validate", any(validate_object))
        .route("/validate/", any(validate_object))
        .with_state(webhooks)
}

/// Reads a review's body with the limits that Istio's handler has.
async fn body(request: Request<Body>) -> Result<Vec<u8>, Response> {
    let refuse = |status: StatusCode, text: &'static str| Err((status, text).into_response());
    if request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| kind != "application/json")
    {
        return refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid Content-Type, want `application/json`",
        );
    }
    match tokio::time::timeout(PATIENCE, to_bytes(request.into_body(), LARGEST)).await {
        Err(_) => refuse(StatusCode::REQUEST_TIMEOUT, "the review did not arrive in time"),
        Ok(Ok(bytes)) if bytes.is_empty() => refuse(StatusCode::BAD_REQUEST, "no body found"),
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(_)) => refuse(StatusCode::PAYLOAD_TOO_LARGE, "the review is larger than 6 MiB"),
    }
}

fn review(answer: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

async fn inject_pod(State(webhooks): State<Arc<Webhooks>>, request: Request<Body>) -> Response {
    let started = std::time::Instant::now();
    webhooks.metrics.requests.inc();
    let environment = path_environment(request.uri().path());
    let body = match body(request).await {
        Ok(body) => body,
        Err(refusal) => {
            webhooks.metrics.failures.inc();
            return refusal;
        }
    };
    let Some(injector) = webhooks.injector.load_full() else {
        webhooks.metrics.failures.inc();
        let text = "the injector has no configuration yet: is ConfigMap istio-sidecar-injector[-REVISION] there?";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    // Rendering a large pod takes milliseconds of pure computing; other requests go on meanwhile.
    let shared = Arc::clone(&webhooks);
    let answered =
        tokio::task::spawn_blocking(move || answer(&injector, &body, &environment, |ns| (shared.namespaces)(ns)));
    let Ok((answer, verdict)) = answered.await else {
        webhooks.metrics.failures.inc();
        return (StatusCode::INTERNAL_SERVER_ERROR, "injection ended unexpectedly").into_response();
    };
    match verdict {
        Verdict::Injected => webhooks.metrics.successes.inc(),
        Verdict::Skipped(skip) => {
            tracing::debug!(?skip, "pod left as it is");
            webhooks.metrics.skips.inc()
        }
        Verdict::Refused(reason) => {
            tracing::warn!(reason, "pod refused by the injector");
            webhooks.metrics.failures.inc()
        }
    };
    webhooks.metrics.seconds.observe(started.elapsed().as_secs_f64());
    review(&answer)
}

async fn validate_object(State(webhooks): State<Arc<Webhooks>>, request: Request<Body>) -> Response {
    match body(request).await {
        Ok(body) => review(&validated(&body, &*webhooks.validate)),
        Err(refusal) => refusal,
    }
}

/// The answer to a validation review.
fn validated(body: &[u8], validate: &Validate) -> Value {
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return verdict(&json!({}), Err(format!("could not decode body: {error}"))),
    };
    let request = &review["request"];
    // A deletion is never a mistake of the object.
    if !matches!(request["operation"].as_str(), Some("CREATE" | "UPDATE")) {
        return verdict(&review, Ok(Vec::new()));
    }
    verdict(&review, validate(&request["object"]))
}

fn verdict(review: &Value, outcome: Result<Vec<String>, String>) -> Value {
    let uid = &review["request"]["uid"];
    let response = match outcome {
        Ok(warnings) if warnings.is_empty() => json!({"uid": uid, "allowed": true}),
        Ok(warnings) => json!({"uid": uid, "allowed": true, "warnings": warnings}),
        Err(message) => json!({"uid": uid, "allowed": false, "status": {"message": message}}),
    };
    let version = review["apiVersion"].as_str().unwrap_or("admission.k8s.io/v1");
    json!({"apiVersion": version, "kind": "AdmissionReview", "response": response})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operation: &str, object: Value, expected: Value) {
        let validate = |object: &Value| match object["bad"].as_bool() {
            Some(true) => Err("configuration is invalid: bad".to_owned()),
            _ => Ok(Vec::new()),
        };
        let body = json!({"apiVersion": "admission.k8s.io/v1", "request": {"uid": "u", "operation": operation, "object": object}});
        assert_eq!(validated(body.to_string().as_bytes(), &validate)["response"], expected);
    }

    #[test]
    fn only_writes_are_validated() {
        check(
            "CREATE",
            json!({"bad": true}),
            json!({"uid": "u", "allowed": false, "status": {"message": "configuration is invalid: bad"}}),
        );
        check("DELETE", json!({"bad": true}), json!({"uid": "u", "allowed": true}));
        check("UPDATE", json!({}), json!({"uid": "u", "allowed": true}));
    }

    #[test]
    fn nonsense_is_refused_not_let_through() {
        let answer = validated(b"nonsense", &|_: &Value| Ok(Vec::new()));
        assert_eq!(answer["response"]["allowed"], false);
    }
}
