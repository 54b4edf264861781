//! Ports 8080 and 15014: readiness, metrics, version, debug pages (control-plane.md §1.17).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ads::Registry;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ca::Authenticator;

use crate::debug::{self, Debug};
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::source::Translation;
use crate::version;

/// What the pages read.
pub struct Pages {
    /// The mesh and its views.
    pub engine: Arc<Engine<Translation>>,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// Who may ask.
    pub debug: Debug,
    /// Whether there are debug pages.
    pub debug_pages: bool,
    /// Who is who, for callers that are not on loopback.
    pub authenticator: Option<Arc<Authenticator>>,
    /// Numbers.
    pub metrics: Metrics,
    /// Whether the injector has its configuration, or is not wanted.
    pub injector_ready: AtomicBool,
}

/// All pages.
pub fn router(pages: Arc<Pages>) -> Router {
    let debug = if pages.debug_pages {
        debug::pages::router(pages.clone())
    } else {
        Router::new()
    };
    Router::new()
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/version", get(|| async { version::line() }))
        .with_state(pages)
        .merge(debug)
}

/// Readiness alone, for ports that are reachable by everybody.
pub fn readiness(pages: Arc<Pages>) -> Router {
    Router::new().route("/ready", get(ready)).with_state(pages)
}

async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    if !pages.engine.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the cluster has not been read yet").into_response();
    }
    if !pages.injector_ready.load(Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the injector has no configuration yet").into_response();
    }
    StatusCode::OK.into_response()
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    let text = pages.metrics.render(&pages.engine, &pages.registry);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
