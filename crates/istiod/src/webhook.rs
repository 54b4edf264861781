//! The webhook server's routes on port 15017: `/inject` and `/validate` (revisions.md §5.2, §4.5).
//!
//! Only HTTP lives here. What a pod becomes is `inject`'s decision, what an object may say is the validator's.

// By path, so that the benchmark can take this file as it is.
#[path = "webhook/metrics.rs"]
mod metrics;
#[path = "webhook/validations.rs"]
mod validations;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use futures::StreamExt;
use inject::Injector;
use inject::review::{LARGEST, Verdict, answer, path_environment};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use metrics::InjectionMetrics;
pub use validations::Validations;

/// How long a review may take to arrive. API servers send it at once and wait for the answer as long as this by default.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// Counters of validation.
    pub validations: Arc<Validations>,
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

/// Bytes of all reviews that are being read or answered: callers are not authenticated, so what they make istiod hold is
/// bounded for all of them together.
const HELD: usize = 128 << 20;
/// What a permit stands for.
const UNIT: usize = 4096;
static UNITS: Semaphore = Semaphore::const_new(HELD / UNIT);

/// A review and the room it takes.
struct Held {
    bytes: Vec<u8>,
    _room: Option<SemaphorePermit<'static>>,
}

impl Held {
    /// Makes the answer where computing holds nobody up. A caller that leaves meanwhile does not end that, so the room is
    /// free again with the answer and no sooner.
    async fn answered<T: Send + 'static>(
        self,
        answer: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let answer = move || {
            // All of it: a closure takes along only what it names.
            let held = self;
            answer(&held.bytes)
        };
        tokio::task::spawn_blocking(answer).await
    }
}

/// Reads a review's body with the limits that Istio's handler has.
async fn body(request: Request<Body>, units: &'static Semaphore) -> Result<Held, Response> {
    let refuse = |status: StatusCode, text: &'static str| Err((status, text).into_response());
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind == "application/json");
    match tokio::time::timeout(PATIENCE, read(request.into_body(), units)).await {
        Err(_) => refuse(StatusCode::REQUEST_TIMEOUT, "the review did not arrive in time"),
        Ok(Ok(held)) if held.bytes.is_empty() => refuse(StatusCode::BAD_REQUEST, "no body found"),
        Ok(Ok(_)) if !is_json => refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid Content-Type, want `application/json`",
        ),
        Ok(Ok(held)) => Ok(held),
        Ok(Err(Unread::TooLarge)) => refuse(StatusCode::PAYLOAD_TOO_LARGE, "the review is larger than 6 MiB"),
        Ok(Err(Unread::NoRoom)) => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many reviews are being answered; try again",
        ),
        Ok(Err(Unread::Broken)) => refuse(StatusCode::BAD_REQUEST, "the review broke off"),
    }
}

/// Why there is no review.
enum Unread {
    TooLarge,
    NoRoom,
    Broken,
}

/// Room is taken as bytes arrive, so that a length which is only claimed takes none.
async fn read(body: Body, units: &'static Semaphore) -> Result<Held, Unread> {
    let mut pieces = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut room: Option<SemaphorePermit<'static>> = None;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Unread::Broken)?;
        if bytes.len() + piece.len() > LARGEST {
            return Err(Unread::TooLarge);
        }
        let held = room.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = (bytes.len() + piece.len()).div_ceil(UNIT).saturating_sub(held);
        let more = u32::try_from(more).map_err(|_| Unread::TooLarge)?;
        let taken = units.try_acquire_many(more).map_err(|_| Unread::NoRoom)?;
        match &mut room {
            Some(room) => room.merge(taken),
            None => room = Some(taken),
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Held { bytes, _room: room })
}

fn review(answer: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

async fn inject_pod(State(webhooks): State<Arc<Webhooks>>, request: Request<Body>) -> Response {
    let started = std::time::Instant::now();
    webhooks.metrics.requests.inc();
    let environment = path_environment(request.uri().path());
    let body = match body(request, &UNITS).await {
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
    let answered = body.answered(move |body| answer(&injector, body, &environment, |ns| (shared.namespaces)(ns)));
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
    let body = match body(request, &UNITS).await {
        Ok(body) => body,
        Err(refusal) => {
            webhooks.validations.http_error(refusal.status().as_u16());
            return refusal;
        }
    };
    let shared = Arc::clone(&webhooks);
    let answered = body.answered(move |body| validated(body, &*shared.validate, &shared.validations));
    match answered.await {
        Ok(answer) => review(&answer),
        Err(_) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            webhooks.validations.http_error(status.as_u16());
            (status, "validation ended unexpectedly").into_response()
        }
    }
}

/// The answer to a validation review.
fn validated(body: &[u8], validate: &Validate, counts: &Validations) -> Value {
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return verdict(&json!({}), Err(format!("could not decode body: {error}"))),
    };
    let request = &review["request"];
    // A deletion is never a mistake of the object.
    if !matches!(request["operation"].as_str(), Some("CREATE" | "UPDATE")) {
        counts.failed(request, "unsupported_operation");
        return verdict(&review, Ok(Vec::new()));
    }
    let (object, outcome) = (&request["object"], validate(&request["object"]));
    match outcome {
        Ok(_) => counts.passed(request),
        Err(_) => counts.failed(request, validations::reason(object)),
    }
    verdict(&review, outcome)
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
        let answer = validated(body.to_string().as_bytes(), &validate, &Validations::default());
        assert_eq!(answer["response"], expected);
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
    fn reviews_are_counted_by_known_resources_and_reasons() {
        let counts = Validations::default();
        let review = |version: &str, plural: &str, kind: &str, more: Value| {
            let group = "networking.istio.io";
            let mut request = json!({
                "operation": "CREATE", "resource": {"group": group, "version": version, "resource": plural},
                "object": {"apiVersion": format!("{group}/{version}"), "kind": kind},
            });
            request
                .as_object_mut()
                .into_iter()
                .for_each(|request| request.extend(more.as_object().cloned().unwrap_or_default()));
            let validate = |object: &Value| match object["kind"].as_str() {
                Some("Sidecar") => Ok(Vec::new()),
                _ => Err("no".to_owned()),
            };
            validated(json!({"request": request}).to_string().as_bytes(), &validate, &counts);
        };
        review("v1", "sidecars", "Sidecar", json!({}));
        review("v1", "gateways", "Gateway", json!({}));
        review("v1", "gateways", "Gateway", json!({"dryRun": true}));
        review("v1beta1", "gateways", "Gateway", json!({"operation": "DELETE"}));
        for name in ["as", "bs"] {
            review("v1", name, "Other", json!({}));
        }
        counts.http_error(415);
        let counts = counts.read();
        let name = |of: &validations::Resource| format!("{}/{}", of.version, of.resource);
        let passed: Vec<_> = counts.passed.iter().map(|(of, n)| (name(of), *n)).collect();
        let failed: Vec<_> = counts
            .failed
            .iter()
            .map(|((of, why), n)| (name(of), *why, *n))
            .collect();
        assert_eq!(passed, [("v1/sidecars".to_owned(), 1)]);
        let expected = [
            ("v1/gateways", "invalid_resource", 1),
            ("v1beta1/gateways", "unsupported_operation", 1),
            ("unknown/unknown", "unknown_type", 2),
        ];
        assert_eq!(failed, expected.map(|(name, why, n)| (name.to_owned(), why, n)));
        assert_eq!(counts.http_errors, [(415, 1)].into());
    }

    #[test]
    fn nonsense_is_refused_not_let_through() {
        let answer = validated(b"nonsense", &|_: &Value| Ok(Vec::new()), &Validations::default());
        assert_eq!(answer["response"]["allowed"], false);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_does_not_free_what_its_answer_still_takes() {
        let units: &'static Semaphore = Box::leak(Box::new(Semaphore::new(4)));
        let free = |expected: usize| async move {
            let reached = async {
                while units.available_permits() != expected {
                    tokio::task::yield_now().await;
                }
            };
            assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "{expected} free");
        };
        let Ok(held) = read(Body::from(vec![b'x'; 3 * UNIT]), units).await else {
            panic!("there is room")
        };
        let ((started, begins), (go_on, waits)) = (tokio::sync::oneshot::channel(), std::sync::mpsc::channel::<()>());
        let request = tokio::spawn(held.answered(move |_| {
            let _ = started.send(());
            let _ = waits.recv();
        }));
        assert!(begins.await.is_ok());
        request.abort();
        assert!(request.await.is_err_and(|ended| ended.is_cancelled()));
        assert_eq!(units.available_permits(), 1);
        drop(go_on);
        free(4).await;
    }

    #[tokio::test]
    async fn nothing_is_refused_as_nothing_and_else_by_its_content_type() {
        let check = async |kind: &str, text: &'static str, expected: Result<&[u8], StatusCode>| {
            let request = Request::builder()
                .header(header::CONTENT_TYPE, kind)
                .body(Body::from(text));
            let Ok(request) = request else { panic!("a request") };
            let read = body(request, &UNITS).await;
            let read = read.as_ref().map(|held| &*held.bytes).map_err(Response::status);
            assert_eq!(read, expected, "{kind} {text:?}");
        };
        check("application/json", "{}", Ok(b"{}")).await;
        check("application/json", "", Err(StatusCode::BAD_REQUEST)).await;
        check("text/plain", "", Err(StatusCode::BAD_REQUEST)).await;
        check("text/plain", "{}", Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)).await;
        let with_parameter = "application/json; charset=utf-8";
        check(with_parameter, "{}", Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)).await;
    }

    /// How much of a body of pieces with these lengths is read when there is room for `room` bytes.
    async fn check_read(pieces: &[usize], room: usize, expected: Result<usize, StatusCode>) {
        let units: &'static Semaphore = Box::leak(Box::new(Semaphore::new(room / UNIT)));
        let free = units.available_permits();
        let pieces: Vec<_> = pieces
            .iter()
            .map(|length| Ok::<_, std::io::Error>(vec![b'x'; *length]))
            .collect();
        let request = Request::builder()
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from_stream(futures::stream::iter(pieces)));
        let Ok(request) = request else { panic!("a request") };
        let read = body(request, units).await;
        let length = read.as_ref().map(|held| held.bytes.len());
        assert_eq!(length.map_err(|refusal| refusal.status()), expected);
        drop(read);
        assert_eq!(units.available_permits(), free, "all room is given back");
    }

    #[tokio::test]
    async fn what_callers_make_istiod_hold_is_bounded() {
        check_read(&[], HELD, Err(StatusCode::BAD_REQUEST)).await;
        check_read(&[10, 5000], HELD, Ok(5010)).await;
        check_read(&[LARGEST, 1], HELD, Err(StatusCode::PAYLOAD_TOO_LARGE)).await;
        check_read(&[10 * UNIT], 10 * UNIT, Ok(10 * UNIT)).await;
        check_read(&[10 * UNIT, 1], 10 * UNIT, Err(StatusCode::SERVICE_UNAVAILABLE)).await;
    }
}
